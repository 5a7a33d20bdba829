declare module "*.css";
declare module "*.svg" {
  const drawing: string;
  export default drawing;
}
/** Address of the file that `socket.ts` is made into. */
declare const SOCKET_WORKER: string;
