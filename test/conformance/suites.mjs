// Runs instruction-set conformance vectors through the interpreter and the JIT, in this process. Used by the tests (with the
// sources) and by `npm run conformance` (with dist): the caller passes the modules as `bpf`.
//
// Formats: *.data files of bpf_conformance (sections `-- asm`, `-- raw`, `-- mem`, `-- result`, `-- error`), and the JSON lines that
// `test_bpf` describes each of the kernel's lib/test_bpf.c tests by.

import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Addresses in the test's memory. */
const STACK = 1024;
const SKB = 8192;
const DATA = 16384;
const MAX_FRAMES = 8;
const PAGE = 65536;

const hex64 = (value) => `0x${BigInt.asUintN(64, value).toString(16)}`;

/** One engine test: a program, its memory, and the same environment for both engines. */
class Bench {
  /** Memories by their pages: making one maps gigabytes of address space, so they are used again. */
  static #memories = new Map();

  constructor(bpf, bytes = 3 * PAGE) {
    this.bpf = bpf;
    this.pages = Math.ceil(bytes / PAGE);
    this.memory = Bench.#memories.get(this.pages);
    if (this.memory === undefined) {
      this.memory = new WebAssembly.Memory({ initial: this.pages, maximum: this.pages, shared: true });
      Bench.#memories.set(this.pages, this.memory);
    }
    this.view = new DataView(this.memory.buffer);
    new Uint8Array(this.memory.buffer).fill(0);
  }

  fill(address, bytes) {
    new Uint8Array(this.memory.buffer).fill(0, SKB);
    new Uint8Array(this.memory.buffer).set(bytes, address);
  }

  /** A function that runs the program from given r1 and r2. */
  interpreter(insns, { helpers = {}, unwindHelper, tailCalls, bigEndian = false } = {}) {
    return (r1, r2) => {
      const vm = new this.bpf.Interpreter(
        {
          insns,
          memory: this.memory.buffer,
          stack: STACK,
          maxFrames: MAX_FRAMES,
          unwindHelper,
          bigEndian,
          helper: (id, args) => {
            if (helpers[id] === undefined) throw new Error(`no helper ${id}`);
            return BigInt(helpers[id](...args));
          },
          ...(tailCalls === undefined
            ? {}
            : { tailCall: (args) => tailCalls[Number(args[2] & 0xffffffffn)] }),
          packetLoad: (skb, offset, size) => {
            const value = this.bpf.loadPacket(this.view, Number(skb), offset, size, !bigEndian);
            return value === undefined ? undefined : BigInt(value);
          },
        },
        r1,
        r2,
      );
      return vm.run();
    };
  }

  jit(insns, { helpers = {}, unwindHelper, tailCalls } = {}) {
    const wasm = this.bpf.jitRaw(insns, {
      memory: { min: this.pages, max: this.pages, shared: true },
      stack: STACK,
      maxFrames: MAX_FRAMES,
      helpers: Object.keys(helpers).map(Number),
      ...(unwindHelper === undefined ? {} : { unwindHelper }),
      ...(tailCalls === undefined ? {} : { tailCalls }),
    });
    if (!WebAssembly.validate(wasm)) throw new Error('the JIT made an invalid module');
    const imports = Object.entries(helpers).map(([id, call]) => [id, (...args) => BigInt(call(...args))]);
    const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
      env: { memory: this.memory },
      helper: Object.fromEntries(imports),
    });
    return (r1, r2) => BigInt.asUintN(64, exports.run64(BigInt.asIntN(64, r1), BigInt.asIntN(64, r2)));
  }
}

const ENGINES = ['interpreter', 'jit'];

/** Sections of a *.data file: name → text. */
export function parseDataFile(text) {
  const sections = new Map();
  let current;
  for (const line of text.split('\n')) {
    const header = /^--\s*(.*?)\s*$/.exec(line);
    if (header !== null) {
      current = header[1];
      sections.set(current, '');
    } else if (current !== undefined) sections.set(current, `${sections.get(current)}${line}\n`);
  }
  return sections;
}

const withoutComments = (text) => text.replace(/#.*$/gm, '');

function parseMemory(text) {
  const bytes = withoutComments(text).trim();
  return bytes === '' ? [] : bytes.split(/\s+/).map((byte) => Number.parseInt(byte, 16));
}

/** One file; returns the differences, empty where it passes. */
export function runDataFile(bpf, text) {
  const sections = parseDataFile(text);
  const problems = [];
  const raw = sections.get('raw');
  let insns;
  let assemblyError;
  try {
    if (sections.has('asm')) insns = bpf.assemble(sections.get('asm'));
  } catch (error) {
    assemblyError = error;
  }
  if (raw !== undefined) {
    const words = withoutComments(raw).trim().split(/\s+/).map(BigInt);
    const bytes = new Uint8Array(new BigUint64Array(words).buffer);
    if (insns !== undefined && Buffer.compare(bpf.encodeInsns(insns), bytes) !== 0) {
      problems.push(
        `assembled to ${Buffer.from(bpf.encodeInsns(insns)).toString('hex')}, not the raw section`,
      );
    }
    insns ??= bpf.decodeInsns(bytes);
  }
  const wantsError = sections.has('error') && !sections.has('result');
  if (insns === undefined) {
    if (wantsError) return [];
    return [`does not assemble: ${assemblyError?.message ?? 'no asm section'}`];
  }
  const memory = parseMemory(sections.get('mem') ?? '');
  const expected = sections.has('result')
    ? BigInt.asUintN(64, BigInt(withoutComments(sections.get('result')).trim()))
    : undefined;
  const r1 = memory.length === 0 ? 0n : BigInt(DATA);
  // Helper 5 returns its argument and ends the program where that is 0.
  const environment = { helpers: { 5: (argument) => argument }, unwindHelper: 5 };
  for (const engine of ENGINES) {
    const bench = new Bench(bpf);
    bench.fill(DATA, memory);
    let result;
    let error;
    try {
      result = bench[engine](insns, environment)(r1, BigInt(memory.length));
    } catch (caught) {
      error = caught;
    }
    if (wantsError) {
      if (error === undefined) problems.push(`${engine}: ${hex64(result)}, expected an error`);
    } else if (error !== undefined) problems.push(`${engine}: ${error.message}, expected ${hex64(expected)}`);
    else if (result !== expected) problems.push(`${engine}: ${hex64(result)}, expected ${hex64(expected)}`);
  }
  return problems;
}

/** All *.data files of a folder. `report(name, problems)` is called for each. */
export function runBpfConformance(bpf, folder, report) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith('.data')) continue;
    let problems;
    try {
      problems = runDataFile(bpf, readFileSync(path.join(folder, file), 'utf8'));
    } catch (error) {
      problems = [error.message];
    }
    if (problems.length === 0) counts.passed++;
    else counts.failed++;
    report(file, problems);
  }
  return counts;
}

// test_bpf

const FRAG_SIZE = 128;
const ETH_HLEN = 14;
const SKB_FIELDS = {
  pktType: 3,
  mark: 0x1234aaaa,
  hash: 0x1234aaab,
  queueMapping: 123,
  vlanTci: 0xffff,
  vlanProto: 0x0800,
  ifindex: 577,
  devType: 588,
  protocol: 0x0800,
};

/** A byte string of which trailing zeros were cut. */
const fromHex = (text) => new Uint8Array(Buffer.from(text ?? '', 'hex'));

function readInsns(test, folder) {
  if (test.insns_file === undefined) return fromHex(test.insns);
  return new Uint8Array(gunzipSync(readFileSync(path.join(folder, `${test.insns_file}.gz`))));
}

/** Helpers of converted classic filters, on the bench's memory. */
function filterHelpers(bpf, bench, little = true) {
  const low = (value) => Number(value & 0xffffffffn);
  const skbHelper = (id) => (skb, a, x) =>
    BigInt(bpf.callSkbHelper(bench.view, id, Number(skb), low(a), low(x), little));
  return {
    [bpf.isa.BPF_FUNC_get_prandom_u32]: () => BigInt(Math.floor(Math.random() * 2 ** 32)),
    [bpf.isa.BPF_FUNC_get_smp_processor_id]: () => 0n,
    ...Object.fromEntries(Object.values(bpf.SKB_HELPERS).map((id) => [id, skbHelper(id)])),
  };
}

/** Lays out what the test's r1 points to; returns r1. */
function testData(bpf, bench, test, size, little = true) {
  if (test.flags.includes('NO_DATA')) return 0n;
  if (test.flags.includes('LARGE_MEM')) {
    bench.fill(DATA, new Uint8Array(size));
    return BigInt(DATA);
  }
  const packet = new Uint8Array(size + FRAG_SIZE);
  packet.set(fromHex(test.data).subarray(0, size));
  const hasFrag = test.flags.includes('SKB_FRAG');
  if (hasFrag) packet.set(fromHex(test.frag_data).subarray(0, FRAG_SIZE), size);
  bench.fill(DATA, packet);
  bpf.writeSkBuff(
    bench.view,
    SKB,
    {
      ...SKB_FIELDS,
      data: DATA,
      len: hasFrag ? size + FRAG_SIZE : size,
      headLen: size,
      networkOffset: Math.min(size, ETH_HLEN),
    },
    little,
  );
  return BigInt(SKB);
}

/**
 * True where a program gives what is expected on a big-endian machine. Some vectors are of the branch that lib/test_bpf.c has for
 * those: they say nothing about this one.
 */
function isForBigEndian(bpf, test, insns) {
  const bench = new Bench(bpf, DATA + Math.max(PAGE, ...test.runs.map((run) => run.data_size + 8192)));
  const run = bench.interpreter(insns, { helpers: filterHelpers(bpf, bench, false), bigEndian: true });
  return test.runs.every(({ data_size: size, result }) => {
    const r1 = testData(bpf, bench, test, size, false);
    try {
      return Number(BigInt.asUintN(32, run(r1, 0n))) === result >>> 0;
    } catch {
      return false;
    }
  });
}

/** One line that is no tail-call test; returns the differences. `skip` is called for one that is not for this machine. */
export function runTestBpfLine(bpf, test, folder, skip = () => {}) {
  const problems = [];
  const bytes = readInsns(test, folder);
  const wantsError = test.flags.includes('EXPECTED_FAIL') || test.expected_errcode !== 0;
  let insns;
  try {
    insns = test.kind === 'cbpf' ? bpf.convertFilter(bpf.decodeSockFilters(bytes)) : bpf.decodeInsns(bytes);
  } catch (error) {
    if (wantsError && error.code === 'EINVAL') return [];
    return [`refused: ${error.message}`];
  }
  if (wantsError) return [`accepted, expected errno ${test.expected_errcode}`];
  for (const engine of ENGINES) {
    const bench = new Bench(bpf, DATA + Math.max(PAGE, ...test.runs.map((run) => run.data_size + 8192)));
    let run;
    try {
      run = bench[engine](insns, { helpers: filterHelpers(bpf, bench) });
    } catch (error) {
      problems.push(`${engine}: ${error.message}`);
      continue;
    }
    for (const { data_size: size, result: expected } of test.runs) {
      const r1 = testData(bpf, bench, test, size);
      let result;
      try {
        result = Number(BigInt.asUintN(32, run(r1, 0n)));
      } catch (error) {
        result = error.message;
      }
      if (result !== expected >>> 0) {
        problems.push(`${engine}, ${size} bytes: ${result}, expected ${expected >>> 0}`);
      }
    }
  }
  if (problems.length > 0 && isForBigEndian(bpf, test, insns)) {
    skip('the vector is for a big-endian machine');
    return [];
  }
  return problems;
}

const TAIL_CALL_MARKER = 0x7a11ca11;
const TAIL_CALL_NULL = 0x7fff;
const TAIL_CALL_INVALID = 0x7ffe;
const FLAG_NEED_STATE = 1;
const FLAG_RESULT_IN_STATE = 2;
const TAIL_CALL_RUNS = 1000;

/** What the set's loader does: program indexes instead of markers, plain helper calls instead of relocated ones. */
function patchTailCalls(bpf, insns, which, count) {
  const { isa } = bpf;
  return insns.map((insn) => {
    if (insn.code === (isa.BPF_ALU | isa.BPF_MOV | isa.BPF_K) && insn.imm === TAIL_CALL_MARKER) {
      const imm =
        insn.off === TAIL_CALL_NULL ? count : insn.off === TAIL_CALL_INVALID ? count + 1 : which + insn.off;
      return { ...insn, off: 0, imm };
    }
    const isCall = insn.code === (isa.BPF_JMP | isa.BPF_CALL) && insn.src === isa.BPF_PSEUDO_CALL;
    return isCall ? { ...insn, src: 0 } : insn;
  });
}

function runTailCalls(bpf, tests, report, counts) {
  const programs = tests.map((test, which) =>
    patchTailCalls(bpf, bpf.decodeInsns(fromHex(test.insns)), which, tests.length),
  );
  const called = new Set(
    programs.flatMap((program) => program.filter((i) => i.code === 0x85).map((i) => i.imm)),
  );
  const helpers = Object.fromEntries([...called].map((id) => [id, () => 0n]));
  for (const [which, test] of tests.entries()) {
    const problems = [];
    for (const engine of ENGINES) {
      const bench = new Bench(bpf);
      bench.fill(DATA, []);
      const needsState = (test.flags & FLAG_NEED_STATE) !== 0;
      try {
        const run = bench[engine](programs[which], { helpers, tailCalls: [...programs, undefined] });
        let result = 0;
        for (let n = 0; n < TAIL_CALL_RUNS; n++) {
          result = Number(BigInt.asIntN(32, run(needsState ? BigInt(DATA) : 0n, 0n)));
        }
        if ((test.flags & FLAG_RESULT_IN_STATE) !== 0) result = bench.view.getInt32(DATA, true);
        if (result !== test.result) problems.push(`${engine}: ${result}, expected ${test.result}`);
      } catch (error) {
        problems.push(`${engine}: ${error.message}`);
      }
    }
    if (problems.length === 0) counts.passed++;
    else counts.failed++;
    report(`tail call ${test.tail_call}: ${test.name}`, problems);
  }
}

/**
 * A folder with vectors.jsonl.gz (or vectors.jsonl). `report(name, problems, skipped)` is called for each test, `only(test)` tells
 * which are run.
 * @param {any} bpf
 * @param {string} folder
 * @param {(...told: any[]) => void} report
 * @param {(test: any) => boolean} only
 */
export function runTestBpf(bpf, folder, report, only = () => true) {
  const files = readdirSync(folder).filter((name) => /\.jsonl(\.gz)?$/.test(name));
  const counts = { passed: 0, failed: 0, skipped: 0 };
  for (const file of files.sort()) {
    const content = readFileSync(path.join(folder, file));
    const text = (file.endsWith('.gz') ? gunzipSync(content) : content).toString('utf8');
    const tests = text
      .split('\n')
      .filter((line) => line.trim() !== '')
      .map((line) => JSON.parse(line))
      .filter(only);
    for (const test of tests) {
      if (test.tail_call !== undefined) continue;
      let problems;
      let skipped;
      try {
        problems = runTestBpfLine(bpf, test, folder, (reason) => {
          skipped = reason;
        });
      } catch (error) {
        problems = [error.message];
      }
      if (skipped !== undefined) counts.skipped++;
      else if (problems.length === 0) counts.passed++;
      else counts.failed++;
      report(`${test.i}: ${test.name}`, problems, skipped);
    }
    const tailCalls = tests.filter((test) => test.tail_call !== undefined);
    if (tailCalls.length > 0) {
      const ordered = tailCalls.sort((a, b) => a.tail_call - b.tail_call);
      runTailCalls(bpf, ordered, report, counts);
    }
  }
  return counts;
}
