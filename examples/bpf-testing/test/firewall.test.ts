import { readFileSync } from 'node:fs';
import {
  bpfFixture,
  ethernetPacket,
  icmpPacket,
  tcpPacket,
  udpPacket,
  XDP_DROP,
  XDP_PASS,
} from 'trapline/testing/vitest';
import { beforeEach, describe, expect, test } from 'vitest';

const object = readFileSync(new URL('../bpf/firewall.bpf.o', import.meta.url));

const REASON = { passed: 0, source: 1, port: 2, rate: 3, malformed: 4 };
const SECOND = 1_000_000_000n;

describe('blocked sources', () => {
  const firewall = bpfFixture(object);
  beforeEach(() => firewall.reset());

  test('the object loads', () => {
    expect(firewall).toLoad();
  });

  test('a packet passes where nothing is blocked, and is counted', () => {
    const packet = tcpPacket({ source: '192.0.2.7' });
    const run = firewall.run('firewall', packet);
    expect(run).toReturn(XDP_PASS);
    expect(run).toLeavePacket(packet);
    expect(firewall.percpuMap('counters')).toHaveEntry(REASON.passed, [1n]);
    expect(firewall.records('drops')).toEqual([]);
  });

  test('the longest prefix decides, hits are counted, drops are reported', () => {
    const blocked = firewall.map('blocked');
    blocked.set({ length: 24, address: [192, 0, 2, 0] }, 0n);
    blocked.set({ length: 32, address: [192, 0, 2, 9] }, 100n);
    expect(firewall.run('firewall', tcpPacket({ source: '192.0.2.7' }))).toReturn(XDP_DROP);
    expect(firewall.run('firewall', udpPacket({ source: '192.0.2.9' }))).toReturn('XDP_DROP');
    expect(firewall.run('firewall', tcpPacket({ source: '192.0.3.7' }))).toReturn(XDP_PASS);
    expect(blocked).toHaveEntries([
      [{ length: 24, address: [192, 0, 2, 0] }, 1n],
      [{ length: 32, address: [192, 0, 2, 9] }, 101n],
    ]);
    expect(firewall.records('drops', 'drop')).toEqual([
      { source: [192, 0, 2, 7], port: 0, reason: REASON.source },
      { source: [192, 0, 2, 9], port: 0, reason: REASON.source },
    ]);
  });

  test('what is not IPv4 passes; what ends too early does not', () => {
    expect(firewall.run('firewall', ethernetPacket(0x86dd, new Uint8Array(40)))).toReturn(XDP_PASS);
    const whole = tcpPacket();
    for (let length = 14; length < whole.length; length++) {
      expect(firewall.run('firewall', whole.subarray(0, length)), `${length} bytes`).toReturn(XDP_DROP);
    }
    expect(firewall.percpuMap('counters')).toHaveEntry(REASON.malformed, [BigInt(whole.length - 14)]);
  });

  test('reports that find no room are counted', () => {
    firewall.map('blocked').set({ length: 0, address: [0, 0, 0, 0] }, 0n);
    let runs = 0;
    while (firewall.globals.get('reports_lost') === 0n && runs < 1000) {
      firewall.run('firewall', tcpPacket());
      runs++;
    }
    expect(firewall.globals.get('reports_lost')).toBe(1n);
    expect(firewall.records('drops')).toHaveLength(runs - 1);
  });
});

describe('open ports', () => {
  const firewall = bpfFixture(object, { globals: { check_ports: true } });
  beforeEach(() => firewall.reset());

  test.each([
    { port: 443, verdict: 'XDP_PASS' },
    { port: 22, verdict: 'XDP_DROP' },
  ] as const)('port $port: $verdict', ({ port, verdict }) => {
    firewall.map('open_ports').set(443, 1);
    expect(firewall.run('firewall', tcpPacket({ destinationPort: port }))).toReturn(verdict);
    expect(firewall.run('firewall', udpPacket({ destinationPort: port }))).toReturn(verdict);
  });
});

describe('the rate of connections', () => {
  const firewall = bpfFixture(object, { globals: { max_connections: 3 } });
  beforeEach(() => firewall.reset());

  const connect = (source: string) => firewall.run('firewall', tcpPacket({ source, flags: 'S' }));

  test('three a second and a source', () => {
    firewall.now = 5n * SECOND;
    const verdicts = Array.from({ length: 5 }, () => connect('10.1.1.1').retval);
    expect(verdicts).toEqual([XDP_PASS, XDP_PASS, XDP_PASS, XDP_DROP, XDP_DROP]);
    expect(connect('10.1.1.2')).toReturn(XDP_PASS);
    firewall.now += SECOND;
    expect(connect('10.1.1.1')).toReturn(XDP_PASS);
  });

  test('packets of open connections do not count', () => {
    for (let n = 0; n < 10; n++) {
      expect(firewall.run('firewall', tcpPacket({ flags: 'PA', payload: 'GET /' }))).toReturn(XDP_PASS);
    }
    expect(firewall.map('buckets')).toHaveEntries([]);
  });
});

describe('answer_ping', () => {
  const firewall = bpfFixture(object);

  test('swaps the addresses and corrects the checksum', () => {
    const ping = icmpPacket({ source: '10.0.0.1', destination: '10.0.0.2', payload: 'abcdefgh' });
    const pong = icmpPacket({
      ethSource: '02:00:00:00:00:02',
      ethDestination: '02:00:00:00:00:01',
      source: '10.0.0.2',
      destination: '10.0.0.1',
      type: 0,
      payload: 'abcdefgh',
    });
    const run = firewall.run('answer_ping', ping);
    expect(run).toReturn('XDP_TX');
    expect(run).toLeavePacket(pong);
  });
});

test('a program without bounds checks is refused', () => {
  const broken = readFileSync(new URL('../bpf/broken.bpf.o', import.meta.url));
  expect(broken).toReject('invalid access to packet');
  expect(broken).not.toReject(/something else/);
  expect(object).not.toReject();
});
