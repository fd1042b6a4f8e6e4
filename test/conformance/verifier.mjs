// Gives the kernel's annotated verifier tests, as recorded on a real kernel (`results.jsonl.gz`), to this verifier: it has to
// accept what the kernel accepted and refuse what it refused. Tests that need helpers, map types or contexts that are not
// here are skipped.

import { readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

const MAP_TYPES = { 1: 'hash', 2: 'array', 5: 'percpu_hash', 6: 'percpu_array', 27: 'ringbuf' };

const readOnly = (size) => ({
  size,
  access: (off, bytes, write) => (!write && off % bytes === 0 ? 'scalar' : undefined),
});

/** struct __sk_buff: words; cb is writable; pointers and fields of other program types are not there. */
const SK_BUFF = {
  size: 192,
  access(off, bytes, write) {
    if (off % bytes !== 0) return undefined;
    const isCb = off >= 48 && off < 68;
    if (write) return isCb && (bytes === 4 || bytes === 8) ? 'scalar' : undefined;
    if (isCb) return 'scalar';
    const isAbsent = (off >= 72 && off < 84) || (off >= 140 && off < 144) || off >= 152;
    return !isAbsent && bytes <= 4 ? 'scalar' : undefined;
  },
};

const CONTEXTS = {
  kprobe: readOnly(168),
  tracepoint: readOnly(8192),
  raw_tracepoint: readOnly(96),
  perf_event: readOnly(184),
  socket_filter: SK_BUFF,
};

/** Known differences, each with its reason. */
const KNOWN = {
  map_fd_for_function_call: 'the recorded map number is a map here',
};

/** What this verifier does not have is no difference. */
const ABSENT = /cannot use helper|not a kernel function|invalid func|BPF_LD_\[ABS\|IND\]/;

/** Runs all; `report(name, problems, skipped)` for each test. Gives the counts. */
export function runVerifier(bpf, folder, report) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const skip = (name, why) => {
    counts.skipped++;
    report(name, [], why);
  };
  const lines = gunzipSync(readFileSync(path.join(folder, 'results.jsonl.gz')))
    .toString()
    .trim()
    .split('\n');
  for (const line of lines) {
    const row = JSON.parse(line);
    if (row.mode !== 'priv' || !row.agrees || !(row.type in CONTEXTS)) continue;
    const name = `${row.file}/${row.prog}`;
    if (row.prog in KNOWN) {
      skip(name, KNOWN[row.prog]);
      continue;
    }
    if (!row.insns || (row.maps ?? []).some(({ type, internal }) => internal || !(type in MAP_TYPES))) {
      skip(name, 'a map type that is not here');
      continue;
    }
    const answer = verify(bpf, row);
    if (answer.error !== undefined && ABSENT.test(answer.error) && !row.log.includes(answer.error)) {
      skip(name, answer.error);
      continue;
    }
    const isAccepted = answer.error === undefined;
    if (isAccepted === (row.load === 0)) {
      counts.passed++;
      continue;
    }
    counts.failed++;
    report(name, [
      isAccepted ? 'accepted, the kernel refuses it' : `refused, the kernel accepts it: ${answer.error}`,
    ]);
  }
  return counts;
}

function verify(bpf, row) {
  const insns = bpf.isa.decodeInsns(Buffer.from(row.insns, 'hex'));
  for (let i = 0; i < insns.length; i++) {
    const insn = insns[i];
    if (!bpf.isa.isLdImm64(insn)) continue;
    if (insn.src === bpf.isa.BPF_PSEUDO_MAP_FD) insn.src = bpf.isa.BPF_PSEUDO_MAP_IDX;
    else if (insn.src === bpf.isa.BPF_PSEUDO_MAP_VALUE) insn.src = bpf.isa.BPF_PSEUDO_MAP_IDX_VALUE;
    i++;
  }
  const maps = (row.maps ?? []).map((map) => ({
    name: map.name,
    type: MAP_TYPES[map.type],
    keySize: map.key_size,
    valueSize: map.value_size,
    maxEntries: map.max_entries,
  }));
  try {
    bpf.verifyProgram({
      name: row.prog,
      type: row.type,
      insns,
      maps,
      ctx: CONTEXTS[row.type],
      allowUninitStack: true,
      strictAlignment: (row.prog_flags & 1) !== 0,
    });
    return {};
  } catch (error) {
    if (!(error instanceof bpf.VerifierError)) return { error: `crash: ${error.stack}` };
    return { error: error.summary.split('\n')[0] };
  }
}
