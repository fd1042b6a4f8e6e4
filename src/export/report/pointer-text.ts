/** Addresses that a `%p` prints from the record: %pM, %pI4, %pI6, %pU, %ph. */

const hex = (byte: number | undefined): string => (byte ?? 0).toString(16).padStart(2, '0');

/** `length` is the precision or width that says how many bytes `%*ph` has. */
export function pointerBytesText(conversion: string, bytes: Uint8Array, length: number | undefined): string {
  const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
  switch (conversion[1]) {
    case 'M':
    case 'm': {
      const order = conversion[2] === 'R' ? range(6).reverse() : range(6);
      const between = conversion[1] === 'm' ? '' : conversion[2] === 'F' ? '-' : ':';
      return order.map((n) => hex(bytes[n])).join(between);
    }
    case 'I':
    case 'i':
      return conversion[2] === '4' ? ip4(conversion, bytes) : ip6(conversion, bytes);
    case 'U': {
      const upper = /[BL]/.test(conversion);
      const little = /[lL]/.test(conversion);
      const order = little ? [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15] : range(16);
      const text = order
        .map((n, at) => (/^(?:4|6|8|10)$/.test(String(at)) ? '-' : '') + hex(bytes[n]))
        .join('');
      return upper ? text.toUpperCase() : text;
    }
    default: {
      const between = { C: ':', D: '-', N: '' }[conversion[2] ?? ''] ?? ' ';
      return [...bytes.subarray(0, Math.min(length ?? bytes.length, 64))].map(hex).join(between);
    }
  }
}

function ip4(conversion: string, bytes: Uint8Array): string {
  const four = Array.from({ length: 4 }, (_, n) => bytes[n] ?? 0);
  if (/[hl]$/.test(conversion)) four.reverse();
  return four.map((byte) => (conversion[1] === 'i' ? String(byte).padStart(3, '0') : String(byte))).join('.');
}

function ip6(conversion: string, bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, n) => ((bytes[2 * n] ?? 0) << 8) | (bytes[2 * n + 1] ?? 0));
  const full = words.map((word) => word.toString(16).padStart(4, '0'));
  if (!conversion.endsWith('c')) return full.join(conversion[1] === 'i' ? '' : ':');
  // RFC 5952: the longest run of zeros, the first of several, is left out.
  let best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (words[at + length] === 0) length++;
    if (length > best.length) best = { at, length };
  }
  const short = words.map((word) => word.toString(16));
  if (best.at < 0) return short.join(':');
  return `${short.slice(0, best.at).join(':')}::${short.slice(best.at + best.length).join(':')}`;
}
