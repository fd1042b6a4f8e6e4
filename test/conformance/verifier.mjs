// Gives the kernel's annotated verifier tests, as recorded on a real kernel (`results.jsonl.gz`), to this verifier: it has to
// accept what the kernel accepted, and refuse what it refused with the same error number and for the same reason (its last line is
// in the kernel's log). Rows whose program cannot be rebuilt from the record (its BTF is not in it) are skipped.

import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gunzipSync } from 'node:zlib';

/** Types of the kernel that the rows were recorded on, where TRAPLINE_TARGET_BTF names them; otherwise of this machine's. */
const RECORDED = process.env.TRAPLINE_TARGET_BTF;
const VMLINUX = RECORDED ?? '/sys/kernel/btf/vmlinux';

/** Known differences, each with its reason. */
const KNOWN = {
  map_fd_for_function_call: 'the recorded map number is a map here',
};

/** Special fields of map values are known from BTF only: helpers that need one. */
const FIELD_HELPERS = new Set([93, 94, 169, 170, 171, 172, 194]);
/** Kernel functions whose arguments are types of the program's own BTF. */
const BTF_KFUNCS =
  /obj_new|obj_drop|refcount_acquire|bpf_rbtree|bpf_list|bpf_wq|kfunc_call_test|testmod|bpf_cast_to_kern_ctx|bpf_rdonly_cast/;

/** Programs read structures of the kernel they were recorded on. */
const OTHER_OFFSETS =
  /struct \w+ doesn't have field at offset|cannot access ptr member|access beyond (the end of member|struct)|target BTF/;

/** A register with a kernel structure. */
const KERNEL_POINTER = /R\d_?\w*=\w*ptr_(?!or_null_\()[a-z]\w*\(/;

/** What the record does not have; undefined where the program is whole. */
function missing(row, names, insns) {
  const refused = /Global function (\w+)\(\)/.exec(row.log)?.[1];
  const isOther = refused !== undefined && !row.prog.endsWith(refused);
  if (
    isOther ||
    /use static function instead|is global and assumed valid|Validating .*\(\) func#|Caller passes invalid args|frames is too deep !/.test(
      row.log,
    )
  ) {
    return "the program's BTF says which functions are global";
  }
  if (/failed to resolve CO-RE|libbpf:/.test(row.log) && !/^\d+: \(/m.test(row.log))
    return 'refused before the kernel saw it';
  for (const insn of insns) {
    if (insn.code !== 0x85) continue;
    if (insn.src === 0 && FIELD_HELPERS.has(insn.imm) && !/progs cannot use|cannot use helper/.test(row.log))
      return "the map's BTF says where its special fields are";
    if (insn.src === 2 && insn.off !== 0) return 'a function of a kernel module';
    if (insn.src === 2 && names.get(insn.imm) === undefined)
      return `kernel function ${insn.imm} has no name in any log`;
    if (insn.src === 2 && BTF_KFUNCS.test(names.get(insn.imm)))
      return "the function's types are in the program's BTF";
  }
  if (/multiple exception callback tags|LD_ABS is only allowed in functions that return/.test(row.log))
    return "the program's BTF says what its functions are";
  if (/fd \d+ is not pointing to valid bpf_map/.test(row.log)) return 'a descriptor of the recording process';
  if (row.type === 'struct_ops' && row.load === 0) return 'struct_ops programs are refused here';
  if (row.log === '' && row.load !== 0) return 'refused before the kernel saw it';
  if (/is not modifiable|unsupported member|is not sleepable/.test(row.log))
    return 'a list of the kernel build decides';
  if (/progs cannot use|cannot access ptr member|exception cb|from callback subprog|CO-RE/.test(row.log))
    return "the map's or program's BTF is not in the record";
  return undefined;
}

/** Maps that programs only read: what they hold is not in the record. */
const RDONLY_PROG = 0x80;

/** What a program that the kernel accepted was refused for here because the record has not all of it. */
function notRecorded(error, source, insns, names) {
  const throws = insns.some(
    ({ code, src, imm }) => code === 0x85 && src === 2 && names.get(imm) === 'bpf_throw',
  );
  if (throws && /^unreachable insn/.test(error)) return "the program's BTF names its exception callback";
  const kernelTypes = RECORDED === undefined && ['tracing', 'lsm'].includes(source.type);
  if (kernelTypes && /must be a rcu pointer|expected pointer to STRUCT \w+ but R\d has/.test(error))
    return 'offsets in kernel structures: this machine runs another kernel';
  const hasConstants = source.maps?.some(({ flags }) => (flags & RDONLY_PROG) !== 0) === true;
  if (
    hasConstants &&
    /memory access|outside of the allowed memory range|invalid access to map value/.test(error)
  )
    return 'constants in a read-only map are not in the record';
  return undefined;
}

/** Runs all; `report(name, problems, skipped)` for each test. Gives the counts. */
export function runVerifier(bpf, folder, report) {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const rows = gunzipSync(readFileSync(path.join(folder, 'results.jsonl.gz')))
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  const names = kfuncNames(rows);
  const programs = new Map();
  for (const row of rows) if (row.insns) programs.set(`${row.file}/${row.prog}`, row);
  const targetBtf = existsSync(VMLINUX) ? bpf.parseBtf(readFileSync(VMLINUX)) : undefined;
  if (RECORDED !== undefined && targetBtf !== undefined) nameKfuncs(names, rows, bpf, targetBtf);
  for (const row of rows) {
    const name = `${row.file}/${row.prog}${row.mode === 'unpriv' ? ' (unprivileged)' : ''}`;
    const skip = (why) => {
      counts.skipped++;
      report(name, [], why);
    };
    if (row.prog in KNOWN) {
      skip(KNOWN[row.prog]);
      continue;
    }
    const source = row.insns ? row : programs.get(`${row.file}/${row.prog}`);
    if (source === undefined || source.insns === '') {
      skip('no instructions are recorded');
      continue;
    }
    const insns = decode(bpf, source);
    const why = missing(row, names, insns);
    if (why !== undefined) {
      skip(why);
      continue;
    }
    const answer = verify(bpf, row, source, insns, names, targetBtf);
    if (OTHER_OFFSETS.test(answer.error ?? '') && !row.log.includes(answer.error)) {
      skip('offsets in kernel structures: this machine runs another kernel');
      continue;
    }
    if (row.load === 0 && answer.errno !== 0) {
      const lost = notRecorded(answer.error, source, insns, names);
      if (lost !== undefined) {
        skip(lost);
        continue;
      }
    }
    const problems = compare(row, answer);
    if (problems.length > 0 && KERNEL_POINTER.test(row.log)) {
      skip(`offsets in kernel structures: this machine runs another kernel (${problems[0]})`);
      continue;
    }
    if (problems.length === 0) counts.passed++;
    else counts.failed++;
    report(name, problems);
  }
  return counts;
}

/** Kernel functions that no log names, by the types of their kernel. */
function nameKfuncs(names, rows, bpf, btf) {
  for (const { insns } of rows) {
    if (!insns) continue;
    for (const { code, src, off, imm } of bpf.isa.decodeInsns(Buffer.from(insns, 'hex'))) {
      const isCall = code === 0x85 && src === 2 && off === 0;
      if (isCall && !names.has(imm) && imm < btf.typeCount) names.set(imm, btf.name(imm));
    }
  }
}

/** Kernel functions by id, as the logs name them. */
function kfuncNames(rows) {
  const names = new Map();
  for (const { log } of rows) {
    for (const [, name, id] of log.matchAll(/call (\w+)#(\d+)/g))
      if (Number(id) > 300) names.set(Number(id), name);
  }
  return names;
}

function compare(row, answer) {
  if (answer.crash !== undefined) return [answer.crash];
  // ENOSPC: the recorder's log buffer was too small, the program was refused for another reason.
  const kernel = row.load === -28 && answer.errno !== 0 ? answer.errno : row.load;
  if (answer.errno !== kernel) {
    const said = kernel === 0 ? '' : ` (${lastLine(row.log)})`;
    return [
      answer.errno === 0
        ? `accepted, the kernel refuses it with ${kernel}${said}`
        : `refused with ${answer.errno}, the kernel gives ${kernel}${said}: ${answer.error}`,
    ];
  }
  if (kernel === 0) return [];
  // Ids in the kernel's BTF are another build's.
  const plain = (text) => text.replace(/attach_btf_id \d+/g, 'attach_btf_id');
  const wanted = answer.error.split('\n').at(-1);
  return row.log === '' || plain(row.log).includes(plain(wanted))
    ? []
    : [`says "${wanted}", the kernel "${lastLine(row.log)}"`];
}

const lastLine = (log) =>
  log
    .trim()
    .split('\n')
    .filter((line) => !/^processed |^Global function /.test(line))
    .at(-1);

function decode(bpf, row) {
  const insns = bpf.isa.decodeInsns(Buffer.from(row.insns, 'hex'));
  for (let i = 0; i < insns.length; i++) {
    const insn = insns[i];
    if (!bpf.isa.isLdImm64(insn)) continue;
    if (insn.src === bpf.isa.BPF_PSEUDO_MAP_FD) insn.src = bpf.isa.BPF_PSEUDO_MAP_IDX;
    else if (insn.src === bpf.isa.BPF_PSEUDO_MAP_VALUE) insn.src = bpf.isa.BPF_PSEUDO_MAP_IDX_VALUE;
    i++;
  }
  return insns;
}

const TAIL_CALL = 12;
const LD_MODES = [0x20, 0x40];

/**
 * The record does not have a program's BTF, without which functions may not end early. It had some unless the log says otherwise: then
 * every function returns a number, and none is global.
 */
function functionTypes(bpf, insns, log) {
  const endsEarly = insns.some(
    ({ code, src, imm }) =>
      (code === 0x85 && src === 0 && imm === TAIL_CALL) ||
      ((code & 7) === 0 && LD_MODES.includes(code & 0xe0)),
  );
  if (!endsEarly || /subprogs without BTF/.test(log)) return {};
  const starts = new Set([0]);
  for (const [at, { code, src, imm }] of insns.entries()) {
    if ((code === 0x85 && src === 1) || (code === 0x18 && src === 4)) starts.add(at + 1 + imm);
  }
  const b = new bpf.BtfBuilder();
  const proto = b.funcProto(b.int('int', 4, { signed: true }), []);
  const funcInfo = [...starts]
    .sort((one, other) => one - other)
    .map((insn, n) => ({ insn, typeId: b.func(`f${n}`, proto) }));
  return { btf: b.build(), funcInfo };
}

function verify(bpf, row, source, insns, names, targetBtf) {
  const types = Object.entries(bpf.BPF_MAP_TYPE);
  const maps = (source.maps ?? []).map((map) => ({
    name: map.name,
    type: types.find(([, number]) => number === map.type)?.[0] ?? 'array',
    keySize: map.key_size,
    valueSize: map.value_size,
    maxEntries: map.max_entries,
    flags: map.flags,
  }));
  const kfuncs = [
    ...new Set(insns.filter(({ code, src }) => code === 0x85 && src === 2).map(({ imm }) => imm)),
  ].map((id) => ({
    id,
    name: names.get(id),
    args: [],
    result: 'void',
    kernel: bpf.KERNEL_KFUNCS.get(names.get(id)),
  }));
  const unknown = kfuncs.find(({ kernel }) => kernel === undefined);
  if (unknown !== undefined) return { errno: -1, error: `kernel function ${unknown.name} is not declared` };
  const attachTo = source.section.includes('/') ? source.section.split('/').slice(1).join('/') : undefined;
  const usesBtf =
    ['tracing', 'lsm', 'netfilter'].includes(source.type) || insns.some(({ code }) => code === 0x85);
  try {
    bpf.verifyProgram({
      name: row.prog,
      type: source.type,
      insns,
      maps,
      ...(source.attach_type === 0 && source.type !== 'cgroup_skb'
        ? {}
        : { attachType: bpf.ATTACH_TYPES[source.attach_type] }),
      ...(attachTo === undefined ? {} : { attachTo }),
      ...(targetBtf === undefined || !usesBtf ? {} : { targetBtf }),
      ...functionTypes(bpf, insns, row.log),
      kfuncs,
      sleepable: (row.prog_flags & 16) !== 0 || /\.s\b/.test(source.section) || source.type === 'syscall',
      unprivileged: row.mode === 'unpriv',
      allowUninitStack: true,
      strictAlignment: (row.prog_flags & 1) !== 0,
    });
    return { errno: 0 };
  } catch (error) {
    if (!(error instanceof bpf.VerifierError)) return { crash: `crash: ${error.stack}` };
    return { errno: -error.errno, error: error.summary };
  }
}
