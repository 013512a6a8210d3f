// Arrays of the page: base64 of deflated little-endian numbers, decoded when first asked for.
const KINDS = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, i2: Int16Array, i4: Int32Array };
const decoded = new Map();

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

// A promise of the typed array in `base64`; kind: a key of KINDS; planes: whether bytes stand in planes.
export async function decode(base64, kind, planes = false) {
  const stream = new Blob([bytesOf(base64)]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer()), Kind = KINDS[kind];
  const width = Kind.BYTES_PER_ELEMENT;
  return new Kind((planes && width > 1 ? interleaved(bytes, width) : bytes).buffer);
}

// A promise of the typed array stored in the page's element `id`.
export function blob(id) {
  if (!decoded.has(id)) {
    const { textContent, dataset } = document.getElementById(id);
    decoded.set(id, decode(textContent, dataset.kind, Boolean(dataset.planes)));
  }
  return decoded.get(id);
}

// The JSON stored in the page's script element `id`.
export const json = (id) => JSON.parse(document.getElementById(id).textContent);
