// Lines of recordings and of the replay, without what differs between two runs on the same kernel: times, ids, pids, addresses.

const TASK = /^( *)(\S.*?)-(\d+) +(\( *[\d-]+\) )?(\[\d+\] )([^ ]{5})? +([\d.]+): /;
const LATENCY = /^ *(\S+)-(\d+) +(\d)([^ ]{5}) +\d+us./;

export function scrub(line) {
  return (
    line
      .replace(/^\[ *\d+\.\d+\] /, '[TIME] ')
      .replace(/^ID: \d+$/, 'ID: N')
      .replace(
        TASK,
        (_, _indent, comm, _pid, tgid, cpu, flags) =>
          `${comm}-PID ${tgid ? '(TGID) ' : ''}${comm === 'orc' ? cpu : '[CPU] '}${flags ?? ''} TIME: `,
      )
      .replace(LATENCY, (_, comm, _pid, cpu, flags) => `${comm}-PID ${cpu}${flags} TIME`)
      .replace(/\btype: \d+$/, 'type: N')
      .replace(/^([0-9a-f]{8} [0-9a-f]{8} [0-9a-f]{16}) type/, 'HEX type')
      .replace(/^\d+ \d+ \d+ type/, 'RAW type')
      .replace(/^(oldest event|now) ts: +\d.*/, '$1 ts: TIME')
      .replace(/\b0x00000000[0-9a-f]{8}\b/g, '0xPTR')
      // The kernel hides the address of a probe that was given by one.
      .replace(/^([pr]\d*:\S+) 0x[0-9a-f]{16}\b/, '$1 0xPTR')
      .replace(/\[ +\d+\] \} hitcount/, '[PID] } hitcount')
      .replace(/^( {2}\S+) +\d+ +\d+$/, '$1 N N')
      .replace(/^(?!HEX|RAW).{16}(type: N)$/, 'BINARY $1')
  );
}

/** What differs between two texts in lines; undefined when nothing does. */
export function difference(expected, actual) {
  const want = expected.map(scrub);
  const got = actual.map(scrub);
  for (let n = 0; n < Math.max(want.length, got.length); n++) {
    if (want[n] === got[n]) continue;
    return `line ${n + 1}: expected ${show(want[n])}, got ${show(got[n])}`;
  }
  return undefined;
}

function show(line) {
  return line === undefined
    ? 'no more lines'
    : JSON.stringify(line.length > 160 ? `${line.slice(0, 160)}...` : line);
}
