// Random programs on the interpreter, the JIT and, where it is given, the kernel's JIT: result, packet and contents of maps are the same.

import { INNER, KEYS, MAPS, PACKET_SIZE, Random, randomProgram } from './differential-programs.mjs';

const XDP = 6;
/** The kernel found a mistake of its own: Linux 6.18 does with the address of a function in code that is never reached. */
const EFAULT = 14;
const MAP_TYPES = { hash: 1, array: 2, array_of_maps: 12 };

const key4 = (n) => Uint8Array.of(n, 0, 0, 0);
const key8 = (n) => Uint8Array.of(n, 0, 0, 0, 0, 0, 0, 0);
const hex = (bytes) => (bytes === undefined ? '-' : Buffer.from(bytes).toString('hex'));

/** What maps and packet hold before a program runs. */
function initialState(seed) {
  const random = new Random(seed ^ 0x5bd1e995);
  return {
    packet: random.bytes(PACKET_SIZE),
    values: [random.bytes(64), random.bytes(64)],
    inner: [0, 1, 2, 3].map(() => random.bytes(16)),
    table: KEYS.slice(0, 1 + random.below(4)).map((key) => [key, random.bytes(16)]),
  };
}

const describe = (retval, packet, values, inner, table) =>
  [
    `r0 ${retval}`,
    `packet ${hex(packet)}`,
    ...values.map(hex),
    ...inner.map(hex),
    ...table.map((value, n) => `${KEYS[n]}: ${hex(value)}`),
  ].join('\n');

/** The maps and programs of one of our engines. */
class Ours {
  constructor(bpf, engine) {
    this.engine = engine;
    this.bpf = bpf;
    this.machine = bpf.createMachine();
    this.inner = [0, 1].map(() => this.machine.createMap(INNER));
    this.specs = MAPS.map((spec) => (spec.name === 'outer' ? { ...spec, innerMap: INNER } : spec));
    this.maps = this.specs.map((spec) => this.machine.createMap(spec));
    for (const [n, map] of this.inner.entries()) this.machine.setElement(this.maps[2], key4(n), map);
  }

  /** The final state as text; undefined where the verifier refuses. */
  run(insns, state) {
    const { machine, maps } = this;
    let program;
    try {
      program = machine.loadProgram({
        name: 'random',
        type: 'xdp',
        insns,
        maps: this.specs,
        loadedMaps: maps,
        engine: this.engine,
      });
    } catch (error) {
      if (error instanceof this.bpf.VerifierError) {
        this.refusal = error.message;
        return undefined;
      }
      throw error;
    }
    if (program.wasm !== undefined && !WebAssembly.validate(program.wasm)) throw new Error('invalid module');
    for (const key of KEYS) maps[1].delete(key8(key));
    for (const [n, value] of state.values.entries()) maps[0].update(key4(n), value);
    for (const [n, value] of state.inner.entries()) this.inner[n >> 1].update(key4(n & 1), value);
    for (const [key, value] of state.table) maps[1].update(key8(key), value);
    const { retval, dataOut } = program.testRun({ dataIn: state.packet });
    machine.release(program);
    return describe(
      retval,
      dataOut,
      [0, 1].map((n) => maps[0].lookup(key4(n))),
      state.inner.map((_, n) => this.inner[n >> 1].lookup(key4(n & 1))),
      KEYS.map((key) => maps[1].lookup(key8(key))),
    );
  }
}

/** First instructions of the functions, the program's own included. */
function functionStarts(insns) {
  const starts = new Set([0]);
  for (const [at, { code, src, imm }] of insns.entries()) {
    if ((code === 0x85 && src === 1) || (code === 0x18 && src === 4)) starts.add(at + 1 + imm);
  }
  return [...starts].sort((one, other) => one - other);
}

const MAX_FUNCTIONS = 64;

/** The kernel wants to know the types of functions that helpers call: all are static but the first. */
function functionTypes(bpf) {
  const b = new bpf.BtfBuilder();
  const proto = b.funcProto(b.int('int', 4, { signed: true }), []);
  const ids = Array.from({ length: MAX_FUNCTIONS }, (_, n) =>
    b.func(`f${n}`, proto, n === 0 ? 'global' : 'static'),
  );
  return { bytes: bpf.writeBtf(b.build()), ids };
}

class Kernel {
  constructor(bpf, kernel) {
    this.kernel = kernel;
    this.types = functionTypes(bpf);
    this.btf = kernel.btfLoad(this.types.bytes);
    if (this.btf < 0) throw new Error(`BTF: errno ${-this.btf}`);
    const create = ({ type, keySize, valueSize, maxEntries }) =>
      kernel.mapCreate({
        type: MAP_TYPES[type],
        keySize,
        valueSize,
        maxEntries,
        ...(type === 'array_of_maps' ? { innerMapFd: this.inner[0] } : {}),
      });
    this.inner = [create(INNER), create(INNER)];
    this.fds = MAPS.map(create);
    for (const [n, fd] of this.inner.entries())
      kernel.mapUpdate(this.fds[2], key4(n), new Uint8Array(Uint32Array.of(fd).buffer));
  }

  run(insns, state) {
    const { kernel, fds } = this;
    const patched = insns.map((insn) =>
      insn.code === 0x18 && insn.src === 5 ? { ...insn, src: 1, imm: fds[insn.imm] } : insn,
    );
    const funcInfo = functionStarts(insns).map((insn, n) => ({ insn, typeId: this.types.ids[n] }));
    const { fd, log } = kernel.progLoad({ type: XDP, insns: patched, btfFd: this.btf, funcInfo });
    if (fd === -EFAULT) return null;
    if (fd < 0) {
      this.refusal = `errno ${-fd} ${log}`;
      return undefined;
    }
    for (const key of KEYS) kernel.mapDelete(fds[1], key8(key));
    for (const [n, value] of state.values.entries()) kernel.mapUpdate(fds[0], key4(n), value);
    for (const [n, value] of state.inner.entries()) kernel.mapUpdate(this.inner[n >> 1], key4(n & 1), value);
    for (const [key, value] of state.table) kernel.mapUpdate(fds[1], key8(key), value);
    const { error, retval, dataOut } = kernel.progTestRun(fd, { dataIn: state.packet });
    kernel.close(fd);
    if (error < 0) throw new Error(`test run: errno ${-error}`);
    const found = (result) => (typeof result === 'number' ? undefined : result);
    return describe(
      retval,
      dataOut,
      [0, 1].map((n) => found(kernel.mapLookup(fds[0], key4(n), 64))),
      state.inner.map((_, n) => found(kernel.mapLookup(this.inner[n >> 1], key4(n & 1), 16))),
      KEYS.map((key) => found(kernel.mapLookup(fds[1], key8(key), 16))),
    );
  }

  close() {
    for (const fd of [...this.fds, ...this.inner, this.btf]) this.kernel.close(fd);
  }
}

/**
 * Whether only the kernel differs, and not any more once the program itself clears the upper half of r0 after a 32-bit compare-and-exchange.
 * That is done by the kernel's verifier, unless (Linux 6.18) every way to a use of r0 was cut off as known by another state.
 */
function isUnextended({ kernel }, results, seed, state) {
  const ours = results.filter(([name]) => name !== 'kernel').map(([, result]) => result);
  if (kernel === undefined || ours.some((result) => result !== ours[0])) return false;
  return kernel.run(randomProgram(seed, { zeroExtends: true }), state) === ours[0];
}

/**
 * Runs `count` programs from seed `first` on. `kernel`: the oracle of test/support/kernel-bpf.ts, or undefined. A program that all
 * verifiers refuse is counted as refused, one that only some of them refuse as disagreed (kernels differ in that, from one version to the
 * next); one on which the kernel's verifier breaks down is skipped, and one where it forgets to clear half a register (`unextended`). `report(name, problems)` gets the latter and every difference.
 * @param {any} bpf
 * @param {{ first?: number; count: number; kernel?: any; report: (...told: any[]) => void; progress?: () => void }} options
 */
export function runDifferential(bpf, { first = 1, count, kernel, report, progress = () => {} }) {
  const counts = { passed: 0, failed: 0, skipped: 0, refused: 0, disagreed: 0, unextended: 0 };
  const engines = { interpreter: new Ours(bpf, 'interpreter'), jit: new Ours(bpf, 'jit') };
  const oracle = kernel === undefined ? undefined : new Kernel(bpf, kernel);
  if (oracle !== undefined) engines.kernel = oracle;
  for (let seed = first; seed < first + count; seed++) {
    const insns = randomProgram(seed);
    const state = initialState(seed);
    const results = Object.entries(engines).map(([name, engine]) => {
      try {
        return [name, engine.run(insns, state)];
      } catch (error) {
        return [name, `threw ${error.message}`];
      }
    });
    if (results.some(([, result]) => result === null)) {
      counts.skipped++;
      continue;
    }
    const accepted = results.filter(([, result]) => result !== undefined);
    if (accepted.length < results.length) {
      if (accepted.length === 0) counts.refused++;
      else {
        counts.disagreed++;
        const refusals = results.filter(([, result]) => result === undefined);
        report(`seed ${seed}`, [
          `refused by ${refusals.map(([name]) => `${name}: ${engines[name].refusal}`).join(', ')}`,
        ]);
      }
    } else {
      const [[reference, expected]] = accepted;
      const problems = accepted
        .filter(([, result]) => result !== expected)
        .map(([name, result]) => `${name}:\n${result}\n${reference}:\n${expected}`);
      if (problems.length === 0) counts.passed++;
      else if (isUnextended(engines, results, seed, state)) {
        counts.skipped++;
        counts.unextended++;
      } else {
        counts.failed++;
        report(`seed ${seed}`, [...problems, bpf.disassemble(insns)]);
      }
    }
    if ((seed - first + 1) % 1000 === 0) progress(seed - first + 1, counts);
  }
  oracle?.close();
  return counts;
}
