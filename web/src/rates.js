// What a compressed file is, and the sample rate that its header tells, so that the browser need not resample it.

const FALLBACK = 48_000; // Hz: MP4, WebM, Opus, and what is not known here
const HEAD = 65_536; // bytes that are looked at
const MP3_RATES = { 3: [44_100, 48_000, 32_000], 2: [22_050, 24_000, 16_000], 0: [11_025, 12_000, 8_000] }; // by version
const LAYER1 = [32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448]; // kbit/s, by index from 1 on
const LAYER2 = [32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384];
const LAYER3 = [32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const LOW1 = [32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256]; // of low sample rates (MPEG 2)
const LOW = [8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const TOLD_AT = [36, 21, 13]; // bytes into an MP3 frame where its length may be told, by version and channels
const AAC_RATES = [96, 88.2, 64, 48, 44.1, 32, 24, 22.05, 16, 12, 11.025, 8, 7.35].map((khz) => khz * 1000);

/** { rate in Hz } of a FLAC, Ogg, MP3 or AAC File; 48,000 Hz of others. Of MP3 and AAC also { mp3, start in bytes }. */
export async function sniff(file) {
  const start = await sizeOfTag(file);
  const bytes = new Uint8Array(await file.slice(start, start + HEAD).arrayBuffer());
  const name = text(bytes, 0, 4);
  if (name === "fLaC") return { rate: flacRate(bytes, 0) };
  if (name === "OggS") return { rate: oggRate(bytes) };
  if (text(bytes, 4, 4) === "ftyp" || name === "\x1aE\xdf\xa3") return { rate: FALLBACK }; // MP4, WebM
  const frame = findFrame(bytes);
  return frame ? { ...frame, start: start + frame.start } : { rate: FALLBACK };
}

/** Bytes of an ID3v2 tag, which may stand before MP3, AAC, FLAC and WAV. */
export async function sizeOfTag(file) {
  const bytes = new Uint8Array(await file.slice(0, 10).arrayBuffer());
  if (text(bytes, 0, 3) !== "ID3") return 0;
  return 10 + bytes.subarray(6, 10).reduce((size, byte) => size * 128 + (byte & 0x7f), 0);
}

function flacRate(bytes, start) {
  return (bytes[start + 18] << 12) | (bytes[start + 19] << 4) | (bytes[start + 20] >> 4);
}

function oggRate(bytes) {
  const packet = 27 + bytes[26]; // after the page's header and its table of segments
  if (text(bytes, packet + 1, 6) === "vorbis") return view(bytes).getUint32(packet + 12, true);
  if (text(bytes, packet + 1, 4) === "FLAC") return flacRate(bytes, packet + 9);
  return FALLBACK; // a browser decodes Opus at 48 kHz
}

/** The first MP3 or AAC frame that another one follows, for other bytes may look like one; undefined without any. */
function findFrame(bytes) {
  for (let at = 0; at < bytes.length; at++) {
    const frame = readFrame(bytes, at);
    if (!frame) continue;
    const next = readFrame(bytes, at + frame.length);
    if (next?.rate === frame.rate && next.mp3 === frame.mp3) return { ...frame, start: at };
  }
  return undefined;
}

/** Where recordings begin in an MP3 File, in bytes: at 0, and at each frame without sound that tells a length. */
export async function findBeginnings(file) {
  const found = new Set([0]);
  for (let start = 0; start < file.size; start += HEAD - TOLD_AT[0] - 4) {
    const bytes = new Uint8Array(await file.slice(start, start + HEAD).arrayBuffer());
    for (let i = 0; i < bytes.length; i++) {
      if (bytes[i] !== 0xff || !readFrame(bytes, i)?.mp3) continue;
      if (TOLD_AT.some((at) => ["Xing", "Info"].includes(text(bytes, i + at, 4)))) found.add(start + i);
    }
  }
  return [...found];
}

/** { rate in Hz, mp3, length in bytes } of the MP3 or AAC frame whose header begins at a byte, or undefined. */
function readFrame(bytes, at) {
  if (bytes[at] !== 0xff || (bytes[at + 1] & 0xe0) !== 0xe0 || at + 6 > bytes.length) return undefined;
  const [kind, format] = [bytes[at + 1], bytes[at + 2]];
  const [version, layer] = [(kind >> 3) & 3, (kind >> 1) & 3];
  if (layer === 0) {
    const rate = (kind & 0xf0) === 0xf0 && AAC_RATES[(format >> 2) & 15];
    const length = ((bytes[at + 3] & 3) << 11) | (bytes[at + 4] << 3) | (bytes[at + 5] >> 5);
    return rate && length ? { rate, mp3: false, length } : undefined;
  }
  const rate = MP3_RATES[version]?.[(format >> 2) & 3];
  const kbps = (version === 3 ? [LAYER3, LAYER2, LAYER1] : [LOW, LOW, LOW1])[layer - 1][(format >> 4) - 1];
  if (!rate || !kbps) return undefined;
  const padding = (format >> 1) & 1;
  if (layer === 3) return { rate, mp3: true, length: 4 * (Math.floor((12_000 * kbps) / rate) + padding) }; // layer I
  const size = layer === 1 && version !== 3 ? 72_000 : 144_000; // per kbit/s, at 1 Hz
  return { rate, mp3: true, length: Math.floor((size * kbps) / rate) + padding };
}

/** `length` bytes from `start` on as ASCII. */
export function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

/** A DataView of the same bytes. */
export function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
