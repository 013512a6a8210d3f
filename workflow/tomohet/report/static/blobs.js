// Arrays of the page: base64 of deflated little-endian numbers, decoded when first asked for.
import { inflate } from "./inflate.js";

const KINDS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array };
const decoded = new Map(), waiting = new Map();
let atOnce = false;

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// Put the bytes of each value side by side again, after all first bytes came first, and so on.
function interleaved(bytes, width) {
  const n = bytes.length / width, whole = new Uint8Array(bytes.length);
  for (let k = 0; k < width; k++) for (let i = 0; i < n; i++) whole[i * width + k] = bytes[k * n + i];
  return whole;
}

function typed(bytes, kind, planes) {
  const Kind = KINDS[kind], width = Kind.BYTES_PER_ELEMENT;
  return new Kind((planes && width > 1 ? interleaved(bytes, width) : bytes).buffer);
}

// A promise of the typed array in `base64`; kind: a key of KINDS; planes: whether bytes stand in planes.
export async function decode(base64, kind, planes = false) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return typed(new Uint8Array(await new Response(stream).arrayBuffer()), kind, planes);
}

// The same array, made before the function returns.
export const decodeNow = (base64, kind, planes = false) => typed(inflate(bytesOf(base64)), kind, planes);

// A promise of the typed array stored in the page's element `id`.
export function blob(id) {
  if (!decoded.has(id)) {
    const { textContent, dataset } = document.getElementById(id), given = [textContent, dataset.kind, Boolean(dataset.planes)];
    decoded.set(id, atOnce ? Promise.resolve(decodeNow(...given)) : new Promise((done, failed) => {
      waiting.set(id, () => done(decodeNow(...given)));
      decode(...given).then(done, failed).finally(() => waiting.delete(id));
    }));
  }
  return decoded.get(id);
}

// While `on`, no array is waited for: also those that were asked for before are made now.
export function decodeAtOnce(on) {
  atOnce = on;
  if (!on) return;
  for (const finish of waiting.values()) finish();
  waiting.clear();
}

// The JSON stored in the page's script element `id`.
export const json = (id) => JSON.parse(document.getElementById(id).textContent);
