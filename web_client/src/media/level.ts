/**
 * Loudness of a microphone, for the level meter before joining.
 *
 * The root mean square of the last 1024 samples on a scale of decibels: people speak between -50 and -10 dBFS, and a
 * linear bar would stay at its foot.
 */

export const FLOOR_DB = -60;

/** Map samples in -1..1 to 0..1 over `FLOOR_DB`..0 dBFS. */
export function levelOf(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const rms = Math.sqrt(sum / Math.max(1, samples.length));
  if (rms === 0) return 0;
  const db = 20 * Math.log10(rms);
  return Math.min(1, Math.max(0, 1 - db / FLOOR_DB));
}

/** Report the level of `track` at every animation frame until disposed. */
export function watchLevel(track: MediaStreamTrack, onLevel: (level: number) => void): () => void {
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  analyser.fftSize = 1024;
  const source = context.createMediaStreamSource(new MediaStream([track]));
  source.connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let frame = 0;
  const read = (): void => {
    analyser.getFloatTimeDomainData(samples);
    onLevel(levelOf(samples));
    frame = requestAnimationFrame(read);
  };
  frame = requestAnimationFrame(read);
  return () => {
    cancelAnimationFrame(frame);
    source.disconnect();
    void context.close();
  };
}

/** Two soft notes on the chosen loudspeaker; resolves when they have sounded. */
export async function playTestTone(speaker: string | null): Promise<void> {
  const context = new AudioContext();
  await context.resume();
  await sendTo(context, speaker);
  const gain = context.createGain();
  gain.connect(context.destination);
  const start = context.currentTime + 0.05;
  for (const [index, frequencyHz] of [523.25, 659.25].entries()) {
    const tone = context.createOscillator();
    tone.frequency.value = frequencyHz;
    tone.connect(gain);
    tone.start(start + index * 0.35);
    tone.stop(start + index * 0.35 + 0.3);
  }
  // Ramps instead of steps: a step is heard as a click.
  gain.gain.setValueAtTime(0, start);
  gain.gain.linearRampToValueAtTime(0.2, start + 0.05);
  gain.gain.setValueAtTime(0.2, start + 0.55);
  gain.gain.linearRampToValueAtTime(0, start + 0.65);
  await new Promise((resolve) => setTimeout(resolve, 800));
  await context.close();
}

/** Not every browser lets a page choose the loudspeaker; the default one is then what will be heard in the consult. */
async function sendTo(context: AudioContext, speaker: string | null): Promise<void> {
  if (speaker === null || !("setSinkId" in context) || typeof context.setSinkId !== "function") return;
  try {
    await context.setSinkId(speaker);
  } catch {
    // Unplugged meanwhile: the default one sounds.
  }
}
