/** Into a talk or a course by the code on somebody's screen or paper, or by its link where the browser reads no codes. */
import { useLocation } from "preact-iso";
import { useEffect, useRef, useState } from "preact/hooks";
import { Field, Form, Submit } from "../parts/form";
import { Title } from "../parts/title";
import { pathIn } from "./link";
import { t } from "./texts";

/** What some browsers have, and TypeScript does not know (Shape Detection API). */
interface Detector {
  detect(picture: HTMLVideoElement): Promise<{ rawValue: string }[]>;
}
type Detectors = new (wanted: { formats: readonly string[] }) => Detector;

// A steady hand holds a code for a second; looking costs a phone 20 ms.
const LOOK_MS = 200;

export default function Scan() {
  const { route } = useLocation();
  const video = useRef<HTMLVideoElement>(null);
  const [said, setSaid] = useState("");
  const [Detectors] = useState(() => (window as { BarcodeDetector?: Detectors }).BarcodeDetector);
  function go(text: string): boolean {
    const path = pathIn(text, location.origin);
    if (path === null) setSaid(t().codeElsewhere);
    else route(path);
    return path !== null;
  }
  useEffect(() => {
    if (Detectors === undefined) return;
    const detector = new Detectors({ formats: ["qr_code"] });
    let isOver = false;
    let stream: MediaStream | undefined;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const rest = () => stream?.getTracks().forEach((track) => track.stop());
    async function look(shown: HTMLVideoElement): Promise<void> {
      // A picture that is not there yet is no reason to stop.
      const [found] = await detector.detect(shown).catch(() => []);
      if (isOver || (found !== undefined && go(found.rawValue))) return;
      timer = setTimeout(() => void look(shown), LOOK_MS);
    }
    async function open(): Promise<void> {
      stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
      const shown = video.current;
      if (isOver || shown === null) return rest();
      shown.srcObject = stream;
      await shown.play();
      await look(shown);
    }
    open().catch(() => !isOver && setSaid(t().noScanCamera));
    return () => {
      isOver = true;
      clearTimeout(timer);
      rest();
    };
  }, []);
  return (
    <div class="scan">
      <Title>{t().scan}</Title>
      <p class="soft">{Detectors === undefined ? t().noScan : t().scanHow}</p>
      {Detectors !== undefined && <video ref={video} muted playsInline aria-label={t().scanCamera} />}
      <p class="soft" role="status">
        {said}
      </p>
      <Form
        submit={async ({ link = "" }) => {
          go(link);
        }}
      >
        <Field name="link" label={t().linkOrCode} autocomplete="off" required />
        <Submit>{t().open}</Submit>
      </Form>
    </div>
  );
}
