/** SYN cookies of raw packets (net/ipv4/syncookies.c, net/ipv6/syncookies.c): the kernel's layout, a secret of this machine. */
import { hashKey } from '../../maps/hash-function.ts';
import { fail, type HelperContext, type HelperImpl, view } from './context.ts';

const COOKIE_BITS = 24;
const COOKIE_MASK = 0xff_ffff;
const MAX_SYNCOOKIE_AGE = 2;
const NS_PER_MINUTE = 60_000_000_000n;
const TCP_HLEN = 20;
const TCP = { source: 0, seq: 4, ack: 8, offset: 12 } as const;
const TCP_MSS_DEFAULT = 536;
const OPTION = { end: 0, nop: 1, mss: 2 } as const;

interface Version {
  /** Both addresses, one after the other. */
  readonly addresses: number;
  readonly addressBytes: number;
  /** Segment sizes that a cookie can stand for. */
  readonly sizes: readonly number[];
  readonly fallback: number;
}

const IPV4: Version = {
  addresses: 12,
  addressBytes: 8,
  sizes: [536, 1300, 1440, 1460],
  fallback: TCP_MSS_DEFAULT,
};
const IPV6: Version = {
  addresses: 8,
  addressBytes: 32,
  sizes: [1280 - 60, 1480 - 60, 1500 - 60, 9000 - 60],
  fallback: 1280 - 60,
};

/** cookie_hash(): of the addresses, the ports and a count. */
function hash(
  c: HelperContext,
  version: Version,
  ip: number,
  tcp: number,
  count: number,
  which: number,
): number {
  const { u8 } = view(c);
  const { addresses, addressBytes } = version;
  const input = new Uint8Array(addressBytes + 8);
  input.set(u8.subarray(ip + addresses, ip + addresses + addressBytes));
  input.set(u8.subarray(tcp + TCP.source, tcp + TCP.source + 4), addressBytes);
  new DataView(input.buffer).setUint32(addressBytes + 4, count, true);
  const secret = c.runtime.cookieSecret;
  return hashKey(input, 0, input.length, secret[2 * which]!, secret[2 * which + 1]!) >>> 0;
}

const minutes = (c: HelperContext): number =>
  Number(BigInt.asUintN(32, c.runtime.monotonic() / NS_PER_MINUTE));

/** The segment size that a SYN asks for, 0 where it does not (tcp_parse_mss_option). */
function askedSize(c: HelperContext, tcp: number, length: number): number {
  const { data } = view(c);
  let size = 0;
  for (let at = tcp + TCP_HLEN, left = length - TCP_HLEN; left > 0; ) {
    const option = data.getUint8(at);
    if (option === OPTION.end) break;
    if (option === OPTION.nop) {
      at++;
      left--;
      continue;
    }
    const bytes = left < 2 ? 0 : data.getUint8(at + 1);
    if (bytes < 2 || bytes > left) break;
    if (option === OPTION.mss && bytes === 4) size = data.getUint16(at + 2, false) || size;
    at += bytes;
    left -= bytes;
  }
  return size;
}

/** The cookie in the lower half, the segment size in the upper. */
function generate(c: HelperContext, version: Version, ip: number, tcp: number, length: number): bigint {
  const { data } = view(c);
  if (length < TCP_HLEN || length !== (data.getUint8(tcp + TCP.offset) >> 4) * 4) return fail('EINVAL');
  const asked = askedSize(c, tcp, length) || version.fallback;
  let index = version.sizes.length - 1;
  while (index > 0 && asked < version.sizes[index]!) index--;
  const count = minutes(c);
  const seq = data.getUint32(tcp + TCP.seq, false);
  const second = (hash(c, version, ip, tcp, count, 1) + index) & COOKIE_MASK;
  const cookie = (hash(c, version, ip, tcp, 0, 0) + seq + (count << COOKIE_BITS) + second) >>> 0;
  return BigInt(cookie) | (BigInt(version.sizes[index]!) << 32n);
}

function check(c: HelperContext, version: Version, ip: number, tcp: number): bigint {
  const { data } = view(c);
  const seq = (data.getUint32(tcp + TCP.seq, false) - 1) >>> 0;
  const given = (data.getUint32(tcp + TCP.ack, false) - 1) >>> 0;
  const cookie = (given - hash(c, version, ip, tcp, 0, 0) - seq) >>> 0;
  const count = minutes(c);
  const age = (count - (cookie >>> COOKIE_BITS)) & 0xff;
  if (age >= MAX_SYNCOOKIE_AGE) return fail('EACCES');
  const index = (cookie - hash(c, version, ip, tcp, (count - age) >>> 0, 1)) & COOKIE_MASK;
  return index < version.sizes.length ? 0n : fail('EACCES');
}

export const SYNCOOKIE_HELPERS: Readonly<Record<string, HelperImpl>> = {
  tcp_raw_gen_syncookie_ipv4: (c, ip: number, tcp: number, length: number) =>
    generate(c, IPV4, ip >>> 0, tcp >>> 0, length >>> 0),
  tcp_raw_gen_syncookie_ipv6: (c, ip: number, tcp: number, length: number) =>
    generate(c, IPV6, ip >>> 0, tcp >>> 0, length >>> 0),
  tcp_raw_check_syncookie_ipv4: (c, ip: number, tcp: number) => check(c, IPV4, ip >>> 0, tcp >>> 0),
  tcp_raw_check_syncookie_ipv6: (c, ip: number, tcp: number) => check(c, IPV6, ip >>> 0, tcp >>> 0),
};
