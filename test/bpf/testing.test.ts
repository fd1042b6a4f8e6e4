import { readFileSync } from 'node:fs';
import { beforeEach, describe, expect, test } from 'vitest';
import {
  assertEntries,
  assertEntry,
  assertLoads,
  assertPacket,
  assertRejected,
  assertReturns,
  bpfFixture,
  bpfMatchers,
  checksum,
  ethernetPacket,
  icmpPacket,
  ipAddress,
  macAddress,
  sameValue,
  tcpPacket,
  udpPacket,
} from '../../src/bpf/testing/index.ts';

const examples = new URL('../../examples/bpf-testing/bpf/', import.meta.url);
const firewallObject = new Uint8Array(readFileSync(new URL('firewall.bpf.o', examples)));
const brokenObject = new Uint8Array(readFileSync(new URL('broken.bpf.o', examples)));

const failure = (action: () => void): { message: string; code: string; actual?: unknown } => {
  try {
    action();
  } catch (error) {
    return error as ReturnType<typeof failure>;
  }
  throw new Error('it did not fail');
};

describe('packets', () => {
  const pseudo = (packet: Uint8Array, protocol: number): Uint8Array => {
    const body = packet.length - 34;
    return Uint8Array.of(...packet.subarray(26, 34), 0, protocol, body >> 8, body & 255);
  };

  test.each([
    ['tcp', tcpPacket({ payload: 'odd' }), 6],
    ['udp', udpPacket({ payload: 'four' }), 17],
  ] as const)('%s: what a receiver sums up is zero', (_, packet, protocol) => {
    expect(checksum(packet.subarray(14, 34))).toBe(0);
    expect(checksum(pseudo(packet, protocol), packet.subarray(34))).toBe(0);
    expect((packet[16]! << 8) | packet[17]!).toBe(packet.length - 14);
  });

  test('a known packet, byte by byte', () => {
    const packet = udpPacket({
      ethSource: '00:11:22:33:44:55',
      ethDestination: 'ff:ff:ff:ff:ff:ff',
      source: '192.168.0.1',
      destination: '192.168.0.199',
      sourcePort: 68,
      destinationPort: 67,
      payload: Uint8Array.of(1, 2, 3),
    });
    expect(Buffer.from(packet).toString('hex')).toBe(
      `ffffffffffff0011223344550800${'4500001f000000004011f8b5c0a80001c0a800c7'}0044004300 0b7936 010203`.replaceAll(
        ' ',
        '',
      ),
    );
  });

  test('ICMP, IPv6, tags', () => {
    const ping = icmpPacket({ payload: 'abc' });
    expect(checksum(ping.subarray(34))).toBe(0);
    const six = tcpPacket({ source: 'fe80::1', destination: '2001:db8::2:1', vlans: [5, 7] });
    expect([...six.subarray(12, 24)]).toEqual([0x81, 0, 0, 5, 0x81, 0, 0, 7, 0x86, 0xdd, 0x60, 0]);
    const length = six.length - 22 - 40;
    expect(checksum(six.subarray(30, 62), Uint8Array.of(0, 0, 0, length, 0, 0, 0, 6), six.subarray(62))).toBe(
      0,
    );
    expect(ethernetPacket(0x1234, Uint8Array.of(9))).toHaveLength(15);
  });

  test('mistakes', () => {
    expect([...ipAddress('::')]).toEqual(new Array(16).fill(0));
    expect([...ipAddress('1:2:3:4:5:6:7:8')].filter((_, n) => n % 2 === 1)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const text of ['1.2.3', '1.2.3.256', '1:2', '::1::', 'a.b.c.d', '1:2:3:4:5:6:7:8:9', '12345::']) {
      expect(() => ipAddress(text), text).toThrow(`${text} is no IP address`);
    }
    expect(() => macAddress('00:11')).toThrow('no Ethernet address');
    expect(() => tcpPacket({ flags: 'X' })).toThrow('no TCP flag');
    expect(() => tcpPacket({ source: '1.2.3.4', destination: '::1' })).toThrow('are not of one kind');
  });
});

describe('a fixture', () => {
  const firewall = bpfFixture(firewallObject, { globals: { max_connections: 1 } });
  beforeEach(() => firewall.reset());

  test('loads once; reset puts maps, variables, clock back', () => {
    const { loaded } = firewall;
    firewall.now = 10_000_000_000n;
    firewall.map('open_ports').set(80, 1);
    firewall.globals.set('reports_lost', 3n);
    expect(firewall.run('firewall', tcpPacket()).retval).toBe(2);
    expect(firewall.run('firewall', tcpPacket()).retval).toBe(1);
    expect(firewall.map('buckets').size).toBe(1);
    firewall.reset();
    expect(firewall.loaded).toBe(loaded);
    expect([firewall.now, firewall.map('open_ports').size, firewall.map('buckets').size]).toEqual([0n, 0, 0]);
    expect(firewall.globals.get('reports_lost')).toBe(0n);
    expect(firewall.records('drops')).toEqual([]);
    expect(firewall.run('firewall', tcpPacket()).retval).toBe(2);
  });

  test('is put back after many insertions, too', () => {
    for (let round = 0; round < 3; round++) {
      for (let n = 1; n <= 256; n++) firewall.map('open_ports').set(n, n % 256);
      expect(firewall.map('open_ports').size).toBe(256);
      expect(() => firewall.map('open_ports').set(1000, 1)).toThrow(
        expect.objectContaining({ code: 'E2BIG' }),
      );
      firewall.reset();
      expect(firewall.map('open_ports').size).toBe(0);
    }
  });

  test('names that are not there are told with those that are', () => {
    expect(() => firewall.run('firewal', tcpPacket())).toThrow(
      expect.objectContaining({ code: 'OBJ_NO_SUCH_NAME', hint: 'there are: firewall, answer_ping' }),
    );
    expect(() => firewall.map('nothing')).toThrow('the object has no map nothing');
    expect(() => firewall.records('blocked')).toThrow('map blocked is no ring buffer');
    expect(() => firewall.records('drops', 'nothing')).toThrow('the object has no type nothing');
    expect(() => bpfFixture(firewallObject, { globals: { nothing: 1 } }).object).toThrow(
      'no global variable nothing',
    );
  });
});

describe('checks that fail say what they found', () => {
  const firewall = bpfFixture(firewallObject);
  beforeEach(() => firewall.reset());

  test('loading', () => {
    assertLoads(firewall);
    assertLoads(firewallObject, { program: 'answer_ping' });
    const refused = failure(() => assertLoads(brokenObject));
    expect(refused.code).toBe('ERR_ASSERTION');
    expect(refused.message).toContain(
      'the object does not load: ./broken.bpf.c:11: program no_check: invalid access to packet',
    );
    expect(refused.message).toContain('the last ');
    assertRejected(brokenObject, 'invalid access');
    assertRejected(brokenObject, /outside of the packet/);
    expect(failure(() => assertRejected(brokenObject, 'loops')).message).toContain(
      'refused for another reason',
    );
    expect(failure(() => assertRejected(firewall)).message).toBe('the object loads');
  });

  test('return values and packets', () => {
    const packet = tcpPacket();
    const run = firewall.run('firewall', packet);
    assertReturns(run, 'XDP_PASS');
    assertReturns({ retval: 0xffff_ffff }, -1);
    expect(failure(() => assertReturns(run, 'XDP_DROP'))).toMatchObject({
      message: 'firewall returned 2 (XDP_PASS, TC_ACT_SHOT), not XDP_DROP',
      actual: 2,
      expected: 1,
    });
    assertPacket(run, packet);
    const other = packet.slice();
    other[20] = 0x55;
    expect(failure(() => assertPacket(run, other)).message).toMatch(
      /^firewall left another packet: 54 bytes, not 54; at byte 20 00 /,
    );
    expect(failure(() => assertPacket(run, packet.subarray(1))).message).toMatch(/54 bytes, not 53/);
  });

  test('maps', () => {
    const ports = firewall.map('open_ports');
    ports.set(80, 1);
    assertEntry(ports, 80);
    assertEntry(ports, 80, 1);
    assertEntries(ports, [[80, 1n]]);
    expect(failure(() => assertEntry(ports, 81)).message).toBe(
      'map open_ports has no key 81; it has 1 entries: 80',
    );
    expect(failure(() => assertEntry(ports, 80, 2)).message).toBe('map open_ports has 1 for 80, not 2');
    expect(failure(() => assertEntries(ports, [[81, 1]])).message).toBe(
      'map open_ports: missing: [81,1]; too much: [80,1]',
    );
    expect(() => assertEntry(firewall.bytesMap('open_ports'), 80)).toThrow(
      'maps are checked through fixture.map',
    );
  });

  test('values', () => {
    expect(sameValue({ a: 1n, b: [1, 2] }, { b: [1, 2n], a: 1 })).toBe(true);
    expect(sameValue({ a: 1 }, { a: 1, b: undefined })).toBe(false);
    expect(sameValue(Uint8Array.of(1), [1])).toBe(false);
    expect(sameValue('1', 1)).toBe(false);
    expect(sameValue(null, {})).toBe(false);
  });

  test('matchers use the equality of the framework, with its asymmetric matchers', () => {
    expect.extend(bpfMatchers);
    const extended = expect as unknown as (value: unknown) => {
      toHaveEntry(...args: unknown[]): void;
      toReturn(value: unknown): void;
      not: { toHaveEntry(...args: unknown[]): void; toLoad(): void };
    };
    firewall.map('blocked').set({ length: 8, address: [10, 0, 0, 0] }, 7n);
    const key = { length: 8, address: [10, 0, 0, 0] };
    extended(firewall.map('blocked')).toHaveEntry(key, expect.any(BigInt));
    extended(firewall.map('blocked')).not.toHaveEntry(key, expect.any(String));
    extended(brokenObject).not.toLoad();
    expect(() => extended({ retval: 1 }).toReturn('XDP_TX')).toThrow('the program returned 1');
  });
});
