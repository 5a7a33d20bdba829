/** The little of Node that is used; its types are larger than this package. */
declare module "node:zlib" {
  export function gzipSync(data: Uint8Array, options: { level: number }): Uint8Array;
}
