/** Sound beside the call: how loud somebody is, for the own meter and the ring of who speaks, and a chime. */
import { useEffect, useState } from "preact/hooks";

// Ten times a second is what an eye follows.
const EVERY_MS = 100;
// Of the full scale. A quiet room is below, a voice at an arm's length above.
const SPEAKING = 0.02;
// Between two words nobody stops to speak.
const HOLD_MS = 600;
// A fiftieth of a second: some periods of the deepest voice.
const SAMPLES = 1024;

/** In which everybody is listened to who is listened to now. */
let context: AudioContext | null = null;

/** 0 to 1, in tenths, so that a component is drawn again only for what can be seen. */
export function useLevel(stream: MediaStream | null): number {
  const [level, setLevel] = useState(0);
  useEffect(() => {
    setLevel(0);
    // A voice at an arm's length fills about half of the meter.
    return listen(stream, (loudness) => setLevel(Math.min(10, Math.round(loudness * 50)) / 10));
  }, [stream]);
  return level;
}

export function useSpeaking(stream: MediaStream | null): boolean {
  const [isSpeaking, setSpeaking] = useState(false);
  useEffect(() => {
    let last = 0;
    setSpeaking(false);
    return listen(stream, (loudness) => {
      if (loudness > SPEAKING) last = performance.now();
      setSpeaking(last > 0 && performance.now() - last < HOLD_MS);
    });
  }, [stream]);
  return isSpeaking;
}

/** Two short tones. */
export function chime(): void {
  const bell = new AudioContext();
  const now = bell.currentTime;
  const volume = new GainNode(bell, { gain: 0.15 });
  const tone = new OscillatorNode(bell, { frequency: 660 });
  tone.frequency.setValueAtTime(880, now + 0.15);
  tone.connect(volume).connect(bell.destination);
  tone.addEventListener("ended", () => void bell.close());
  tone.start(now);
  tone.stop(now + 0.35);
}

function listen(stream: MediaStream | null, hear: (loudness: number) => void): (() => void) | undefined {
  if (stream === null) return undefined;
  const samples = new Float32Array(SAMPLES);
  let analyser: AnalyserNode | null = null;
  const timer = setInterval(() => {
    context ??= new AudioContext();
    // A page that nobody has touched may not listen yet, and a stream may get its sound later.
    if (context.state === "suspended") void context.resume();
    if (analyser?.context !== context && stream.getAudioTracks().length > 0) {
      analyser = new AnalyserNode(context, { fftSize: SAMPLES });
      new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(analyser);
    }
    analyser?.getFloatTimeDomainData(samples);
    hear(Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length));
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    // While a context runs, Chromium keeps every source that it ever had. So it ends with each who is no longer listened to,
    // and the others go on in the next one.
    void context?.close();
    context = null;
  };
}
