/** Packets for tests: Ethernet, IPv4 or IPv6, TCP, UDP or ICMP, with lengths and checksums filled in. */
import {
  anInteger,
  anObject,
  aString,
  checkArgument,
  either,
  listOf,
  optional,
  type Properties,
  someBytes,
  someOptions,
  stringOf,
} from '../arguments.ts';
import { BpfError } from '../errors.ts';

const FIELDS: Properties<PacketFields> = {
  ethSource: optional(aString),
  ethDestination: optional(aString),
  vlans: optional(listOf(anInteger(0, 0xffff))),
  source: optional(aString),
  destination: optional(aString),
  ttl: optional(anInteger(0, 255)),
  payload: optional(either(stringOf('a string or a Uint8Array'), someBytes)),
};
const PORT = optional(anInteger(0, 0xffff));
const PORTS = { sourcePort: PORT, destinationPort: PORT };
const WORD = optional(anInteger(0, 0xffff_ffff));
const UDP_FIELDS = someOptions<UdpFields>({ ...FIELDS, ...PORTS });
const BYTE = optional(anInteger(0, 255));
const ICMP_FIELDS = someOptions<IcmpFields>({ ...FIELDS, type: BYTE, code: BYTE });
const TCP_FIELDS = someOptions<TcpFields>({
  ...FIELDS,
  ...PORTS,
  sequence: WORD,
  acknowledgement: WORD,
  flags: optional(aString),
  window: PORT,
});

export interface PacketFields {
  /** `02:00:00:00:00:01` */
  readonly ethSource?: string;
  readonly ethDestination?: string;
  /** 802.1Q tags, the outer one first. */
  readonly vlans?: readonly number[];
  /** Dotted or with colons; both of one kind. */
  readonly source?: string;
  readonly destination?: string;
  readonly ttl?: number;
  readonly payload?: Uint8Array | string;
}

export interface TcpFields extends PacketFields {
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  /** Letters of FIN, SYN, RST, PSH, ACK, URG: `S`, `SA`, `FA`. Default `S`. */
  readonly flags?: string;
  readonly window?: number;
}

export interface UdpFields extends PacketFields {
  readonly sourcePort?: number;
  readonly destinationPort?: number;
}

export interface IcmpFields extends PacketFields {
  readonly type?: number;
  readonly code?: number;
}

const IPPROTO = { icmp: 1, tcp: 6, udp: 17, icmpv6: 58 } as const;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const ETH_P_8021Q = 0x8100;
const TCP_FLAGS = 'FSRPAU';

const bytesOf = (payload: Uint8Array | string = ''): Uint8Array =>
  typeof payload === 'string' ? new TextEncoder().encode(payload) : payload;

function refuse(message: string): never {
  throw new BpfError('EINVAL', `packet: ${message}`);
}

/** `02:00:00:00:00:01` as bytes. Throws BpfError EINVAL. */
export function macAddress(text: string): Uint8Array {
  checkArgument('macAddress()', 'text', text, stringOf('a string: 02:00:00:00:00:01'));
  const parts = text.split(/[:-]/);
  if (parts.length !== 6 || parts.some((part) => !/^[0-9a-f]{1,2}$/i.test(part))) {
    refuse(`${text} is no Ethernet address`);
  }
  return Uint8Array.from(parts, (part) => Number.parseInt(part, 16));
}

/** An IPv4 (4 bytes) or IPv6 (16 bytes) address. Throws BpfError EINVAL. */
export function ipAddress(text: string): Uint8Array {
  checkArgument('ipAddress()', 'text', text, stringOf('a string: 10.0.0.1 or fd00::1'));
  if (!text.includes(':')) {
    const parts = text.split('.');
    if (parts.length !== 4 || parts.some((part) => !/^\d{1,3}$/.test(part) || Number(part) > 255)) {
      refuse(`${text} is no IP address`);
    }
    return Uint8Array.from(parts, Number);
  }
  const [head = '', tail, more] = text.split('::');
  const groups = (part: string): string[] => (part === '' ? [] : part.split(':'));
  const first = groups(head);
  const last = groups(tail ?? '');
  const missing = 8 - first.length - last.length;
  const all = [
    ...first,
    ...Array.from({ length: tail === undefined ? 0 : Math.max(0, missing) }, () => '0'),
    ...last,
  ];
  if (more !== undefined || all.length !== 8 || all.some((part) => !/^[0-9a-f]{1,4}$/i.test(part))) {
    refuse(`${text} is no IP address`);
  }
  return Uint8Array.from(
    all.flatMap((part) => [Number.parseInt(part, 16) >> 8, Number.parseInt(part, 16) & 255]),
  );
}

/** The Internet checksum (RFC 1071) of byte strings one behind the other, each of an even length but the last. */
export function checksum(...parts: readonly Uint8Array[]): number {
  checkArgument('checksum()', 'parts', parts, listOf(someBytes));
  let sum = 0;
  for (const part of parts) {
    for (let at = 0; at < part.length; at += 2) sum += (part[at]! << 8) | (part[at + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x10000);
  return ~sum & 0xffff;
}

function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** A header written field by field, in network order. */
function header(size: number, write: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = new Uint8Array(size);
  write(new DataView(bytes.buffer), bytes);
  return bytes;
}

interface Layers {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly isV6: boolean;
  frame(protocol: number, body: Uint8Array): Uint8Array;
  pseudo(protocol: number, length: number): Uint8Array;
}

function layers(fields: PacketFields): Layers {
  const { source: from, destination: to } = fields;
  const isV6 = (from ?? to ?? '').includes(':');
  const source = ipAddress(from ?? (isV6 ? 'fe80::1' : '10.0.0.1'));
  const destination = ipAddress(to ?? (isV6 ? 'fe80::2' : '10.0.0.2'));
  if (source.length !== destination.length) refuse(`${from} and ${to} are not of one kind`);
  return {
    source,
    destination,
    isV6,
    pseudo(protocol, length) {
      const rest = header(isV6 ? 8 : 4, (view) => {
        if (isV6) {
          view.setUint32(0, length);
          view.setUint8(7, protocol);
        } else {
          view.setUint8(1, protocol);
          view.setUint16(2, length);
        }
      });
      return concat(source, destination, rest);
    },
    frame(protocol, body) {
      const ip = isV6
        ? header(40, (view, bytes) => {
            view.setUint8(0, 0x60);
            view.setUint16(4, body.length);
            view.setUint8(6, protocol);
            view.setUint8(7, fields.ttl ?? 64);
            bytes.set(source, 8);
            bytes.set(destination, 24);
          })
        : header(20, (view, bytes) => {
            view.setUint8(0, 0x45);
            view.setUint16(2, 20 + body.length);
            view.setUint8(8, fields.ttl ?? 64);
            view.setUint8(9, protocol);
            bytes.set(source, 12);
            bytes.set(destination, 16);
            view.setUint16(10, checksum(bytes));
          });
      return ethernetPacket(isV6 ? ETH_P_IPV6 : ETH_P_IP, concat(ip, body), fields);
    },
  };
}

/** An Ethernet frame of any protocol. */
export function ethernetPacket(etherType: number, body: Uint8Array, fields: PacketFields = {}): Uint8Array {
  checkArgument('ethernetPacket()', 'etherType', etherType, anInteger(0, 0xffff));
  checkArgument('ethernetPacket()', 'body', body, someBytes);
  checkArgument('ethernetPacket()', 'fields', fields, optional(anObject));
  const vlans = fields.vlans ?? [];
  const eth = header(14 + vlans.length * 4, (view, bytes) => {
    bytes.set(macAddress(fields.ethDestination ?? '02:00:00:00:00:02'));
    bytes.set(macAddress(fields.ethSource ?? '02:00:00:00:00:01'), 6);
    for (const [n, vlan] of vlans.entries()) {
      view.setUint16(12 + n * 4, ETH_P_8021Q);
      view.setUint16(14 + n * 4, vlan);
    }
    view.setUint16(12 + vlans.length * 4, etherType);
  });
  return concat(eth, body);
}

export function tcpPacket(fields: TcpFields = {}): Uint8Array {
  checkArgument('tcpPacket()', 'fields', fields, TCP_FIELDS);
  const layer = layers(fields);
  const payload = bytesOf(fields.payload);
  const tcp = header(20, (view) => {
    view.setUint16(0, fields.sourcePort ?? 40000);
    view.setUint16(2, fields.destinationPort ?? 80);
    view.setUint32(4, fields.sequence ?? 1);
    view.setUint32(8, fields.acknowledgement ?? 0);
    view.setUint8(12, 5 << 4);
    let bits = 0;
    for (const letter of fields.flags ?? 'S') {
      const bit = TCP_FLAGS.indexOf(letter);
      if (bit < 0) refuse(`${letter} is no TCP flag: ${TCP_FLAGS}`);
      bits |= 1 << bit;
    }
    view.setUint8(13, bits);
    view.setUint16(14, fields.window ?? 65535);
  });
  return layer.frame(IPPROTO.tcp, summed(layer, IPPROTO.tcp, tcp, payload, 16));
}

export function udpPacket(fields: UdpFields = {}): Uint8Array {
  checkArgument('udpPacket()', 'fields', fields, UDP_FIELDS);
  const layer = layers(fields);
  const payload = bytesOf(fields.payload);
  const udp = header(8, (view) => {
    view.setUint16(0, fields.sourcePort ?? 40000);
    view.setUint16(2, fields.destinationPort ?? 53);
    view.setUint16(4, 8 + payload.length);
  });
  return layer.frame(IPPROTO.udp, summed(layer, IPPROTO.udp, udp, payload, 6));
}

export function icmpPacket(fields: IcmpFields = {}): Uint8Array {
  checkArgument('icmpPacket()', 'fields', fields, ICMP_FIELDS);
  const layer = layers(fields);
  const payload = bytesOf(fields.payload);
  const icmp = header(8, (view) => {
    view.setUint8(0, fields.type ?? (layer.isV6 ? 128 : 8));
    view.setUint8(1, fields.code ?? 0);
  });
  if (layer.isV6) return layer.frame(IPPROTO.icmpv6, summed(layer, IPPROTO.icmpv6, icmp, payload, 2));
  new DataView(icmp.buffer).setUint16(2, checksum(icmp, payload));
  return layer.frame(IPPROTO.icmp, concat(icmp, payload));
}

function summed(
  layer: Layers,
  protocol: number,
  head: Uint8Array,
  payload: Uint8Array,
  at: number,
): Uint8Array {
  const sum = checksum(layer.pseudo(protocol, head.length + payload.length), head, payload);
  // A sum of zero would mean none in UDP.
  new DataView(head.buffer).setUint16(at, sum === 0 && protocol === IPPROTO.udp ? 0xffff : sum);
  return concat(head, payload);
}
