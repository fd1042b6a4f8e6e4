/**
 * Calls: helpers and kfuncs by their declarations, functions of the program, and the way back (check_helper_call, check_kfunc_call,
 * check_func_call, prepare_func_exit of kernel/bpf/verifier.c).
 */
import { helperById, UNSUPPORTED_HELPERS } from '../helpers/helpers.ts';
import type { ArgType, HelperProto } from '../helpers/proto.ts';
import * as isa from '../isa.ts';
import { BPF_MAP_TYPE } from '../maps/map-layout.ts';
import { calledFunction, callsBack } from './cfg.ts';
import { type Env, pushState, readReg, setReg } from './env.ts';
import { reject } from './error.ts';
import { checkHelperMem, checkPlainPointer, type HelperAccess, markHelperWrite } from './memory.ts';
import { markPrecise } from './precision.ts';
import { findPreviousEntry, widenScalars } from './prune.ts';
import { NOT_INIT, pointer, type Reg, S32_MAX, S32_MIN, UNKNOWN } from './reg.ts';
import { Frame, mapRegs, type VerifierState } from './state.ts';

/** BPF_MAX_VAR_SIZ */
const MAX_SIZE = 1n << 29n;
const KFUNC_MAX_SIZE = 1n << 20n;
const MAX_ERRNO = 4095n;

/** Pointers that name memory, as the kernel lists them. */
const MEMORY = 'fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_';

/** What one call's arguments said (`struct bpf_call_arg_meta`). */
interface CallMeta {
  map: number;
  /** How the memory of the next size argument is used. */
  access: HelperAccess;
  /** A stack range that the helper fills. */
  raw: { reg: Reg; size: number } | undefined;
  memSize: number;
  maxSize: bigint;
  release: Reg | undefined;
  subprog: number;
}

/** A pointer argument of one of these kinds; NULL where allowed. */
function checkType(reg: Reg, regno: number, types: readonly string[], expected: string): void {
  if (types.includes(reg.typeName)) return;
  reject('EACCES', `R${regno} type=${reg.typeName} expected=${expected}`);
}

const MEMORY_TYPES = ['fp', 'map_key', 'map_value', 'mem', 'ringbuf_mem'];

function checkArg(env: Env, proto: HelperProto, n: number, meta: CallMeta): void {
  const regno = n + 1;
  const type: ArgType = proto.args[n]!;
  const reg = readReg(env, regno);
  switch (type) {
    case 'anything':
      return;
    case 'const_map_ptr':
      checkType(reg, regno, ['map_ptr'], 'map_ptr');
      checkPlainPointer(reg, regno);
      meta.map = reg.map;
      return;
    case 'map_key':
    case 'map_value': {
      checkType(reg, regno, MEMORY_TYPES, MEMORY);
      const spec = env.maps[meta.map];
      if (spec === undefined)
        reject('EACCES', `invalid map_ptr to access map->${type === 'map_key' ? 'key' : 'value'}`);
      checkHelperMem(env, regno, type === 'map_key' ? spec.keySize : spec.valueSize, false, 'read');
      return;
    }
    case 'mem':
    case 'mem_or_null':
    case 'uninit_mem':
      meta.access = type === 'uninit_mem' ? 'uninit' : 'read';
      // NULL is checked with the size.
      if (!reg.isNull || type === 'mem') checkType(reg, regno, MEMORY_TYPES, MEMORY);
      return;
    case 'mem_fixed':
      checkType(reg, regno, MEMORY_TYPES, MEMORY);
      checkHelperMem(env, regno, proto.fixedSize ?? 0, false, 'read');
      return;
    case 'const_size':
    case 'const_size_or_zero':
      checkType(reg, regno, ['scalar'], 'scalar');
      checkSize(env, regno, type === 'const_size_or_zero', meta, MAX_SIZE);
      return;
    case 'const_alloc_size_or_zero':
      checkType(reg, regno, ['scalar'], 'scalar');
      if (!reg.isConst) reject('EACCES', `R${regno} is not a known constant'`);
      meta.memSize = Number(BigInt.asUintN(32, reg.varOff.value));
      markPrecise(env, regno);
      return;
    case 'ringbuf_mem_release':
      checkType(reg, regno, ['ringbuf_mem'], 'ringbuf_mem');
      checkPlainPointer(reg, regno);
      if (reg.refObjId === 0) reject('EINVAL', `arg ${regno} is an unacquired reference`);
      meta.release = reg;
      return;
    case 'ctx':
      checkType(reg, regno, ['ctx'], 'ctx');
      checkPlainPointer(reg, regno);
      return;
    case 'func':
      checkType(reg, regno, ['func'], 'func');
      meta.subprog = reg.memSize;
      return;
    case 'stack_or_null':
      if (!reg.isNull) checkType(reg, regno, ['fp'], 'fp');
      return;
    case 'const_str':
      checkType(reg, regno, ['map_value'], 'map_value');
      reject('EACCES', `R${regno} does not point to a readonly map'`);
  }
}

/** check_mem_size_reg: the memory in the register before, for the largest size that this one may have. */
function checkSize(env: Env, regno: number, zeroAllowed: boolean, meta: CallMeta, limit: bigint): void {
  const reg = env.frame.regs[regno]!;
  meta.maxSize = reg.umax;
  // A helper that may fill only part of the memory leaves the rest as it was: then it has to be initialised.
  const access = reg.isConst || meta.access === 'read' ? meta.access : 'write';
  if (reg.smin < 0n) {
    reject('EACCES', `R${regno} min value is negative, either use unsigned or 'var &= const'`);
  }
  if (reg.umin === 0n && !zeroAllowed) {
    reject('EINVAL', `R${regno} invalid zero-sized read: u64=[${reg.umin},${reg.umax}]`);
  }
  if (reg.umax >= limit) {
    reject('EACCES', `R${regno} unbounded memory access, use 'var &= const' or 'if (var < const)'`);
  }
  const size = Number(reg.umax);
  if (checkHelperMem(env, regno - 1, size, zeroAllowed, access)) {
    meta.raw = { reg: env.frame.regs[regno - 1]!, size };
  }
  markPrecise(env, regno);
}

/** How the log names a helper: `bpf_map_lookup_elem#1`. */
const helperName = (id: number, name: string): string => `bpf_${name}#${id}`;

function findHelper(env: Env, id: number): HelperProto {
  const proto = helperById(id);
  if (proto === undefined) {
    const name = UNSUPPORTED_HELPERS[id];
    if (name === undefined) reject('EINVAL', `invalid func unknown#${id}`);
    reject('EINVAL', `program of this type cannot use helper ${helperName(id, name)}`);
  }
  if (proto.progTypes !== undefined && !proto.progTypes.includes(env.input.type)) {
    reject('EINVAL', `program of this type cannot use helper ${helperName(id, proto.name)}`);
  }
  const { license = 'GPL' } = env.input;
  if (proto.gplOnly === true && !/^(GPL|Dual )/.test(license)) {
    reject('EINVAL', 'cannot call GPL-restricted function from non-GPL compatible program');
  }
  return proto;
}

/** check_helper_call; true when the call's own instruction has to be followed by entering a callback first. */
export function checkHelperCall(env: Env, insn: isa.Insn): void {
  const proto = findHelper(env, insn.imm);
  const meta: CallMeta = {
    map: -1,
    access: 'read',
    raw: undefined,
    memSize: 0,
    maxSize: 0n,
    release: undefined,
    subprog: -1,
  };
  for (let n = 0; n < proto.args.length; n++) checkArg(env, proto, n, meta);
  const spec = env.maps[meta.map];
  if (spec !== undefined && proto.maps !== undefined && !proto.maps.includes(spec.type)) {
    reject(
      'EINVAL',
      `cannot pass map_type ${BPF_MAP_TYPE[spec.type]} into func ${helperName(proto.id, proto.name)}`,
    );
  }
  if (meta.raw !== undefined) markHelperWrite(env, meta.raw.reg, meta.raw.size);
  if (meta.release !== undefined) releaseReference(env.state, meta.release.refObjId);
  env.helpersUsed.add(proto.name);
  if (callsBack(insn)) enterCallback(env, insn.imm, meta);
  clearCallerSaved(env);
  setReg(env, 0, returnValue(env, proto, meta));
}

function returnValue(env: Env, proto: HelperProto, meta: CallMeta): Reg {
  switch (proto.ret) {
    case 'void':
      return NOT_INIT;
    case 'map_value_or_null': {
      const reg = pointer('map_value');
      reg.nullable = true;
      reg.map = meta.map;
      reg.id = env.newId();
      return reg;
    }
    case 'ringbuf_mem_or_null': {
      const reg = pointer('mem');
      reg.nullable = true;
      reg.ringbuf = true;
      reg.memSize = meta.memSize;
      reg.id = env.newId();
      reg.refObjId = reg.id;
      env.state.refs = [...env.state.refs, { id: reg.id, insn: env.insn }];
      return reg;
    }
    case 'integer': {
      if (proto.boundedBySize !== true) return UNKNOWN;
      // do_refine_retval_range: an error, or at most the size.
      const reg = UNKNOWN.copy();
      reg.smin = -MAX_ERRNO;
      reg.smax = meta.maxSize;
      reg.s32min = -Number(MAX_ERRNO);
      reg.s32max = Number(meta.maxSize);
      return reg.sync();
    }
  }
}

/** r0 to r5 have nothing for the caller after a call. */
function clearCallerSaved(env: Env): void {
  for (let i = 0; i <= 5; i++) setReg(env, i, NOT_INIT);
}

/** release_reference: the resource, and with it every pointer into it. */
function releaseReference(state: VerifierState, id: number): void {
  state.refs = state.refs.filter((ref) => ref.id !== id);
  mapRegs(state, (reg) => (reg.refObjId === id ? (reg.type === 'scalar' ? reg : UNKNOWN) : reg));
}

/** check_kfunc_call, for declarations of helpers/kfunc.ts. */
export function checkKfuncCall(env: Env, insn: isa.Insn): void {
  const decl = env.kfuncs.get(insn.imm);
  if (decl === undefined || insn.off !== 0)
    reject('EINVAL', `kernel function btf_id ${insn.imm} is not a kernel function`);
  let raw: CallMeta['raw'];
  for (const [n, type] of decl.args.entries()) {
    const regno = n + 1;
    const reg = readReg(env, regno);
    switch (type) {
      case 'u64':
      case 'u32':
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        break;
      case 'const':
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        if (!reg.isConst) reject('EINVAL', `R${regno} must be a known constant`);
        markPrecise(env, regno);
        break;
      case 'mem_out':
        checkType(reg, regno, MEMORY_TYPES, MEMORY);
        break;
      case 'size': {
        if (reg.type !== 'scalar') reject('EINVAL', `R${regno} is not a scalar`);
        const meta: CallMeta = {
          map: -1,
          access: 'uninit',
          raw: undefined,
          memSize: 0,
          maxSize: 0n,
          release: undefined,
          subprog: -1,
        };
        checkSize(env, regno, false, meta, KFUNC_MAX_SIZE + 1n);
        raw = meta.raw;
      }
    }
  }
  if (raw !== undefined) markHelperWrite(env, raw.reg, raw.size);
  env.kfuncsUsed.add(decl);
  clearCallerSaved(env);
  if (decl.result === 'void') return;
  let result = UNKNOWN;
  if (decl.inline === 'clz64') {
    result = UNKNOWN.copy();
    result.umin = 0n;
    result.umax = 64n;
    result.sync();
  } else if (decl.result === 's32') {
    result = UNKNOWN.copy();
    result.smin = BigInt(S32_MIN);
    result.smax = BigInt(S32_MAX);
    result.sync();
  } else if (decl.result === 'f64') {
    result = UNKNOWN.copy();
    result.smin = -(1n << 53n);
    result.smax = 1n << 53n;
    result.sync();
  }
  setReg(env, 0, result);
}

function enterFrame(
  env: Env,
  state: VerifierState,
  callsite: number,
  start: number,
  isCallback: boolean,
): Frame {
  if (state.isTooDeep) reject('E2BIG', `the call stack of ${state.frames.length} frames is too deep`);
  const subprog = env.subprogs.findIndex((one) => one.start === start);
  const frame = new Frame(callsite, state.frames.length, subprog, isCallback);
  state.frames.push(frame);
  return frame;
}

/** check_func_call of a function of the program; gives where to go on. */
export function checkFuncCall(env: Env, insn: isa.Insn, at: number): number {
  const caller = env.frame;
  const start = calledFunction(insn, at);
  const callee = enterFrame(env, env.state, at, start, false);
  for (let i = 1; i <= 5; i++) callee.regs[i] = caller.regs[i]!;
  // Marks come along: reads of the arguments are reads of the caller's registers.
  callee.writtenRegs = (caller.writtenRegs & 0b111110) | 1;
  for (let i = 0; i <= 5; i++) caller.regs[i] = NOT_INIT;
  caller.writtenRegs |= 0b111111;
  return start;
}

/** push_callback_call: a round of a helper's callback, to be followed later; and the way on without one. */
function enterCallback(env: Env, helper: number, { map, subprog }: CallMeta): void {
  const isLoop = helper === isa.BPF_FUNC_loop;
  if (isLoop) {
    const rounds = env.frame.regs[1]!;
    markPrecise(env, 1);
    if (rounds.type === 'scalar' && BigInt(env.frame.callbackRounds) >= rounds.umax) {
      env.frame.callbackRounds = 0;
      return;
    }
  }
  const start = env.subprogs[subprog]?.start;
  if (start === undefined) reject('EINVAL', 'callback is not a function of the program');
  const inside = pushState(env, start);
  inside.callbackDepth++;
  const caller = inside.frame;
  const callee = enterFrame(env, inside, env.insn, start, true);
  callee.writtenRegs = 0b111111;
  const ctx = caller.regs[3]!.type === 'scalar' ? UNKNOWN : caller.regs[3]!;
  if (isLoop) {
    // (index, ctx)
    caller.callbackRounds++;
    callee.regs[1] = UNKNOWN;
    callee.regs[2] = ctx;
    env.frame.callbackRounds = 0;
    return;
  }
  // set_map_elem_callback_state: (map, key, value, ctx)
  callee.regs[1] = caller.regs[1]!;
  for (const [n, type] of [
    [2, 'map_key'],
    [3, 'map_value'],
  ] as const) {
    const reg = pointer(type);
    reg.map = map;
    callee.regs[n] = reg;
  }
  callee.regs[4] = ctx;
}

/** prepare_func_exit: back in the caller; gives where to go on. */
export function leaveFunction(env: Env): number {
  const { state } = env;
  const callee = state.frames[state.curframe]!;
  const result = callee.regs[0]!;
  if (result.type === 'fp') reject('EINVAL', 'cannot return stack pointer to the caller');
  if (callee.isCallback) {
    if (result.type !== 'scalar') reject('EACCES', 'R0 not a scalar value');
    readReg(env, 0);
    markPrecise(env, 0);
    if (result.smin < 0n || result.smax > 1n) {
      reject(
        'EINVAL',
        `At callback return the register R0 has smin=${result.smin} smax=${result.smax} should have been in [0, 1]`,
      );
    }
    state.frames.pop();
    const previous = findPreviousEntry(env, state, callee.callsite);
    if (previous !== undefined) widenScalars(previous, state);
    return callee.callsite;
  }
  // A function may leave r0 unset: then its caller cannot read it either.
  if (result.type !== 'not_init') readReg(env, 0);
  state.frames.pop();
  setReg(env, 0, result);
  return callee.callsite + 1;
}
