/** Sound beside the call: how loud somebody is, for the own meter and the ring of who speaks, and a chime. */
import { useEffect, useState } from "preact/hooks";

// Ten times a second is what an eye follows.
const EVERY_MS = 100;
// Of the full scale. A quiet room is below, a voice at an arm's length above.
const SPEAKING = 0.02;
// Between two words nobody stops to speak.
const HOLD_MS = 600;

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
  context ??= new AudioContext();
  const now = context.currentTime;
  const volume = new GainNode(context, { gain: 0.15 });
  const tone = new OscillatorNode(context, { frequency: 660 });
  tone.frequency.setValueAtTime(880, now + 0.15);
  tone.connect(volume).connect(context.destination);
  tone.start(now);
  tone.stop(now + 0.35);
}

function listen(stream: MediaStream | null, hear: (loudness: number) => void): (() => void) | undefined {
  if (stream === null) return undefined;
  context ??= new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  const samples = new Float32Array(analyser.fftSize);
  let source: MediaStreamAudioSourceNode | null = null;
  const timer = setInterval(() => {
    // A page that nobody has touched may not listen yet, and a stream may get its sound later.
    if (context?.state === "suspended") void context.resume();
    if (source === null && context !== null && stream.getAudioTracks().length > 0) {
      source = new MediaStreamAudioSourceNode(context, { mediaStream: stream });
      source.connect(analyser);
    }
    analyser.getFloatTimeDomainData(samples);
    hear(Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length));
  }, EVERY_MS);
  return () => {
    clearInterval(timer);
    source?.disconnect();
  };
}
