/** func_info and line_info that come with a program (check_btf_func_early, check_btf_func, check_btf_line of kernel/bpf/verifier.c). */
import type { Btf } from '../btf/btf.ts';
import { skipModifiers } from '../btf/layout.ts';
import * as isa from '../isa.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';

/** check_btf_info_early: each record by itself and in its place, before functions are known. */
export function checkFuncInfo(env: Env): void {
  const { btf, funcInfo } = env.input;
  if (btf === undefined || funcInfo === undefined) return;
  let previous = 0;
  for (const [n, { insn, typeId }] of funcInfo.entries()) {
    if (n === 0 && insn !== 0) reject('EINVAL', `nonzero insn_off ${insn} for the first func info record`);
    if (n > 0 && insn <= previous) {
      reject('EINVAL', `same or smaller insn offset (${insn}) than previous func info record (${previous})`);
    }
    if (!btf.has(typeId) || btf.kindName(typeId) !== 'FUNC')
      reject('EINVAL', `invalid type id ${typeId} in func info`);
    previous = insn;
  }
}

/** check_btf_info: the records against the program's functions. */
export function checkDebugInfo(env: Env): void {
  const { btf, funcInfo = [], lineInfo = [] } = env.input;
  if (btf === undefined || funcInfo.length === 0) checkAbnormalReturn(env);
  if (btf === undefined) return;
  if (funcInfo.length > 0) matchFunctions(env, btf);
  if (lineInfo.length > 0) checkLineInfo(env);
}

function matchFunctions(env: Env, btf: Btf): void {
  const { funcInfo = [] } = env.input;
  if (funcInfo.length !== env.subprogs.length)
    reject('EINVAL', "number of funcs in func_info doesn't match number of subprogs");
  for (const [n, { insn, typeId }] of funcInfo.entries()) {
    if (insn !== env.subprogs[n]!.start)
      reject('EINVAL', "func_info BTF section doesn't match subprog layout in BPF program");
    if (n === 0 || returnsInt(btf, typeId)) continue;
    const early = earlyReturn(env, n);
    if (early !== undefined) reject('EINVAL', `${early} is only allowed in functions that return 'int'.`);
  }
}

/** Whether a function's result is a whole number of at most eight bytes, or an enum. */
function returnsInt(btf: Btf, typeId: number): boolean {
  const func = btf.type(typeId);
  const proto = func.kind === 'FUNC' ? btf.type(func.type) : undefined;
  if (proto?.kind !== 'FUNC_PROTO' || proto.type === 0) return false;
  const result = btf.type(skipModifiers(btf, proto.type));
  if (result.kind === 'ENUM' || result.kind === 'ENUM64') return true;
  return result.kind === 'INT' && result.size <= 8;
}

/** check_abnormal_return: what ends a function early gives a number, which only BTF says that the function may give. */
function checkAbnormalReturn(env: Env): void {
  for (let n = 1; n < env.subprogs.length; n++) {
    const early = earlyReturn(env, n);
    if (early !== undefined) reject('EINVAL', `${early} is not allowed in subprogs without BTF`);
  }
}

/** What a function has that may end it before its exit, reachable or not. */
function earlyReturn(env: Env, subprog: number): 'LD_ABS' | 'tail_call' | undefined {
  const { start, end } = env.subprogs[subprog]!;
  let hasTailCall = false;
  for (let at = start; at < end; at++) {
    const { code, src, imm } = env.insns[at]!;
    const mode = isa.BPF_MODE(code);
    if (isa.BPF_CLASS(code) === isa.BPF_LD && (mode === isa.BPF_ABS || mode === isa.BPF_IND)) return 'LD_ABS';
    if (code === (isa.BPF_JMP | isa.BPF_CALL) && src === 0 && imm === isa.BPF_FUNC_tail_call)
      hasTailCall = true;
  }
  return hasTailCall ? 'tail_call' : undefined;
}

/** Lines go up with the instructions, each names one that begins there, and every function begins with one. */
function checkLineInfo(env: Env): void {
  const { insns, subprogs } = env;
  const { lineInfo = [] } = env.input;
  let previous = 0;
  let func = 0;
  for (const [n, { insn, unnamed }] of lineInfo.entries()) {
    if ((n > 0 && insn <= previous) || insn >= insns.length) {
      reject(
        'EINVAL',
        `Invalid line_info[${n}].insn_off:${insn} (prev_offset:${previous} prog->len:${insns.length})`,
      );
    }
    if (insns[insn]!.code === 0) reject('EINVAL', `Invalid insn code at line_info[${n}].insn_off`);
    if (unnamed === true) reject('EINVAL', `Invalid line_info[${n}].line_off or .file_name_off`);
    if (func < subprogs.length) {
      const { start } = subprogs[func]!;
      if (insn === start) func++;
      else if (start < insn) reject('EINVAL', `missing bpf_line_info for func#${func}`);
    }
    previous = insn;
  }
  if (func < subprogs.length) {
    reject('EINVAL', `missing bpf_line_info for ${subprogs.length - func} funcs starting from func#${func}`);
  }
}
