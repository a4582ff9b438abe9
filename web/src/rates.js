// What a compressed file is, and the sample rate that its header tells, so that the browser need not resample it.

const FALLBACK = 48_000; // Hz: MP4, WebM, Opus, and what is not known here
const HEAD = 65_536; // bytes that are looked at
const SEARCHED = 4_096; // bytes in which the first frame of MP3 or AAC must begin
const MP3_RATES = { 3: [44_100, 48_000, 32_000], 2: [22_050, 24_000, 16_000], 0: [11_025, 12_000, 8_000] }; // by version
const AAC_RATES = [96, 88.2, 64, 48, 44.1, 32, 24, 22.05, 16, 12, 11.025, 8, 7.35].map((khz) => khz * 1000);

/** { rate in Hz, mp3: whether it looks like one } of a FLAC, Ogg, MP3 or AAC File; 48,000 Hz for any other. */
export async function sniff(file) {
  const start = await sizeOfTag(file);
  const bytes = new Uint8Array(await file.slice(start, start + HEAD).arrayBuffer());
  const name = text(bytes, 0, 4);
  if (name === "fLaC") return { rate: flacRate(bytes, 0) };
  if (name === "OggS") return { rate: oggRate(bytes) };
  if (text(bytes, 4, 4) === "ftyp" || name === "\x1aE\xdf\xa3") return { rate: FALLBACK }; // MP4, WebM
  return findFrame(bytes) ?? { rate: FALLBACK };
}

/** Bytes of an ID3v2 tag, which may stand before MP3, AAC and FLAC. */
async function sizeOfTag(file) {
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

/** The first MP3 or AAC frame; undefined where none is found. */
function findFrame(bytes) {
  for (let i = 0; i + 3 < Math.min(bytes.length, SEARCHED); i++) {
    if (bytes[i] !== 0xff || (bytes[i + 1] & 0xe0) !== 0xe0) continue;
    const [version, layer] = [(bytes[i + 1] >> 3) & 3, (bytes[i + 1] >> 1) & 3];
    const aac = AAC_RATES[(bytes[i + 2] >> 2) & 15];
    if (layer === 0 && (bytes[i + 1] & 0xf0) === 0xf0 && aac) return { rate: aac };
    const rate = MP3_RATES[version]?.[(bytes[i + 2] >> 2) & 3];
    if (layer && rate && bytes[i + 2] >> 4 < 15) return { rate, mp3: true };
  }
  return undefined;
}

/** `length` bytes from `start` on as ASCII. */
export function text(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

/** A DataView of the same bytes. */
export function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
