// Inflates deflated data without waiting (RFC 1950 and 1951): a browser prints as soon as "beforeprint" has been heard,
// and its own DecompressionStream would answer later.
const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const extraOfLength = (k) => (k < 8 || k === 28 ? 0 : (k >> 2) - 1), extraOfDistance = (k) => (k < 4 ? 0 : (k >> 1) - 1);
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const END_OF_BLOCK = 256, LONGEST_CODE = 15, HEADER_BYTES = 2;

// A table of the canonical Huffman code with these code lengths: the next bits, the first lowest, lead to
// symbol << 4 | length.
function codeOf(lengths) {
  const longest = Math.max(1, ...lengths), table = new Uint16Array(1 << longest), next = new Uint16Array(LONGEST_CODE + 2);
  for (const length of lengths) if (length) next[length + 1]++;
  for (let length = 1; length <= LONGEST_CODE; length++) next[length + 1] = (next[length] + next[length + 1]) << 1;
  lengths.forEach((length, symbol) => {
    if (!length) return;
    let code = next[length]++, reversed = 0;
    for (let i = 0; i < length; i++, code >>= 1) reversed = (reversed << 1) | (code & 1);
    for (let at = reversed; at < table.length; at += 1 << length) table[at] = (symbol << 4) | length;
  });
  return { table, mask: table.length - 1 };
}

const FIXED = [Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8)), new Array(30).fill(5)];

class Inflater {
  constructor(bytes) {
    Object.assign(this, { bytes, at: HEADER_BYTES, bits: 0, held: 0, out: new Uint8Array(Math.max(1024, 6 * bytes.length)), n: 0 });
  }

  fill(wanted) {
    while (this.held < wanted) {
      if (this.at > this.bytes.length + 3) throw new Error("the deflated data are cut off");
      this.bits |= (this.bytes[this.at++] ?? 0) << this.held;
      this.held += 8;
    }
  }

  take(count) {
    if (!count) return 0;
    this.fill(count);
    const value = this.bits & ((1 << count) - 1);
    this.bits >>>= count;
    this.held -= count;
    return value;
  }

  symbol({ table, mask }) {
    this.fill(LONGEST_CODE);
    const found = table[this.bits & mask], length = found & 15;
    if (!length) throw new Error("the deflated data are damaged");
    this.bits >>>= length;
    this.held -= length;
    return found >> 4;
  }

  room(more) {
    if (this.n + more <= this.out.length) return;
    const larger = new Uint8Array(2 * (this.n + more));
    larger.set(this.out.subarray(0, this.n));
    this.out = larger;
  }

  stored() {
    this.take(this.held & 7);
    const length = this.take(16);
    this.take(16);
    this.at -= this.held >> 3;
    this.bits = this.held = 0;
    this.room(length);
    this.out.set(this.bytes.subarray(this.at, this.at + length), this.n);
    this.at += length;
    this.n += length;
  }

  // The code lengths that stand at the head of a block.
  lengthsOfCodes() {
    const [literals, distances, own] = [this.take(5) + 257, this.take(5) + 1, this.take(4) + 4];
    const ownLengths = new Array(19).fill(0), lengths = [];
    for (let i = 0; i < own; i++) ownLengths[ORDER[i]] = this.take(3);
    const code = codeOf(ownLengths);
    while (lengths.length < literals + distances) {
      const symbol = this.symbol(code);
      if (symbol < 16) lengths.push(symbol);
      else {
        const [bits, least] = { 16: [2, 3], 17: [3, 3], 18: [7, 11] }[symbol], value = symbol === 16 ? lengths.at(-1) : 0;
        for (let i = this.take(bits) + least; i > 0; i--) lengths.push(value);
      }
    }
    return [lengths.slice(0, literals), lengths.slice(literals)];
  }

  coded(lengths) {
    const [literal, distance] = lengths.map(codeOf);
    for (;;) {
      const symbol = this.symbol(literal);
      if (symbol === END_OF_BLOCK) return;
      this.room(258);
      if (symbol < END_OF_BLOCK) {
        this.out[this.n++] = symbol;
        continue;
      }
      const k = symbol - END_OF_BLOCK - 1, length = LENGTHS[k] + this.take(extraOfLength(k)), d = this.symbol(distance);
      const from = this.n - (DISTANCES[d] + this.take(extraOfDistance(d)));
      for (let i = 0; i < length; i++) this.out[this.n + i] = this.out[from + i];
      this.n += length;
    }
  }

  whole() {
    for (let last = 0; !last;) {
      last = this.take(1);
      const kind = this.take(2);
      if (kind === 0) this.stored();
      else if (kind === 3) throw new Error("the deflated data are damaged");
      else this.coded(kind === 1 ? FIXED : this.lengthsOfCodes());
    }
    return this.out.slice(0, this.n);
  }
}

// The bytes whose deflated form with a zlib header is `bytes`.
export const inflate = (bytes) => new Inflater(bytes).whole();
