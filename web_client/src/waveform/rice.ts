/**
 * Split-Rice decoder (media/WAVEFORM_WIRE.md section 1.2); the encoder lives at the source, in Python.
 *
 * Two bit readers walk the unary and the remainder stream. Sums wrap by being stored in
 * an Int16Array, which is the modulo-2^16 arithmetic the codec asks for.
 */

export interface Coded {
  readonly leads: number;
  readonly n: number;
  /** Rows 0-5 are I II III aVR aVL aVF: the last four are residuals. */
  readonly limb: boolean;
}

const MAX_K = 14;

/** Bytes the block takes at the start of `payload`; null when it is cut short or out of range. */
export function codedLength(payload: Uint8Array, { leads, n }: Coded): number | null {
  const head = 3 * leads + 2;
  if (leads < 1 || n < 2 || payload.length < head) return null;
  let remainderBits = 0;
  for (let lead = 0; lead < leads; lead += 1) {
    const parameter = payload[2 * leads + lead] as number;
    if (parameter >> 4 > 2 || (parameter & 15) > MAX_K) return null;
    remainderBits += (parameter & 15) * (n - 1);
  }
  return head + unaryBytes(payload, leads) + ((remainderBits + 7) >> 3);
}

/** Plain int16, row after row. */
export function decodeRaw16(payload: Uint8Array): Int16Array {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const samples = new Int16Array(payload.length >> 1);
  for (let i = 0; i < samples.length; i += 1) samples[i] = view.getInt16(2 * i, true);
  return samples;
}

/** The samples, row after row; null when the bit streams do not hold one code per sample. */
export function decodeRice(payload: Uint8Array, coded: Coded): Int16Array | null {
  const { leads, n } = coded;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const unaryAt = 3 * leads + 2;
  const remainderAt = unaryAt + unaryBytes(payload, leads);
  const unary = new UnaryReader(payload.subarray(unaryAt, remainderAt));
  const remainder = new BitReader(payload.subarray(remainderAt));
  const samples = new Int16Array(leads * n);
  for (let lead = 0; lead < leads; lead += 1) {
    const parameter = payload[2 * leads + lead] as number;
    const row = samples.subarray(lead * n, (lead + 1) * n);
    row[0] = view.getInt16(2 * lead, true);
    if (!decodeRow(row, parameter >> 4, parameter & 15, unary, remainder)) return null;
  }
  if (!unary.exhausted) return null;
  if (coded.limb) addPrediction(samples, n);
  return samples;
}

function decodeRow(row: Int16Array, order: number, k: number, unary: UnaryReader, remainder: BitReader): boolean {
  let value = row[0] as number;
  let slope = 0;
  for (let i = 1; i < row.length; i += 1) {
    const quotient = unary.next();
    if (quotient < 0 || quotient << k > 0xffff) return false;
    const code = (quotient << k) | remainder.take(k);
    const step = (code >>> 1) ^ -(code & 1);
    if (order === 0) {
      value = step;
    } else if (order === 1) {
      value += step;
    } else {
      slope += step;
      value += slope;
    }
    row[i] = value;
  }
  return true;
}

/** III, aVR, aVL and aVF were sent as what I and II do not predict. */
function addPrediction(samples: Int16Array, n: number): void {
  for (let i = 0; i < n; i += 1) {
    const one = samples[i] as number;
    const two = samples[n + i] as number;
    samples[2 * n + i] = (samples[2 * n + i] as number) + two - one;
    samples[3 * n + i] = (samples[3 * n + i] as number) - ((one + two) >> 1);
    samples[4 * n + i] = (samples[4 * n + i] as number) + one - (two >> 1);
    samples[5 * n + i] = (samples[5 * n + i] as number) + two - (one >> 1);
  }
}

function unaryBytes(payload: Uint8Array, leads: number): number {
  return (payload[3 * leads] as number) | ((payload[3 * leads + 1] as number) << 8);
}

/** Zeros, then a one; MSB first. */
class UnaryReader {
  private at = 0;
  private bits = 0;
  private left = 0;

  constructor(private readonly data: Uint8Array) {}

  /** Zeros before the next one; -1 when there is none. */
  next(): number {
    let zeros = 0;
    for (;;) {
      if (this.left === 0) {
        const byte = this.data[this.at];
        if (byte === undefined) return -1;
        this.at += 1;
        this.bits = byte << 24;
        this.left = 8;
      }
      const run = Math.clz32(this.bits);
      if (run < this.left) {
        this.bits <<= run + 1;
        this.left -= run + 1;
        return zeros + run;
      }
      zeros += this.left;
      this.left = 0;
    }
  }

  /** Nothing but the padding of the last byte is left. */
  get exhausted(): boolean {
    return this.at === this.data.length && (this.left === 0 || this.bits === 0);
  }
}

/** Fixed-width fields, MSB first; the caller has checked that the data is long enough. */
class BitReader {
  private at = 0;
  private bits = 0;
  private left = 0;

  constructor(private readonly data: Uint8Array) {}

  take(k: number): number {
    while (this.left < k) {
      this.bits = ((this.bits << 8) | (this.data[this.at] ?? 0)) & 0xffffff;
      this.at += 1;
      this.left += 8;
    }
    this.left -= k;
    return (this.bits >>> this.left) & ((1 << k) - 1);
  }
}
