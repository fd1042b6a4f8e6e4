/** What becomes of a program's instructions where it has an arena (convert_ctx_accesses, do_misc_fixups of kernel/bpf/verifier.c). */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { arenaStart } from '../maps/map-layout.ts';
import { MAP_FLAG } from '../maps/map-spec.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { memoryKind } from './memory.ts';
import type { ProgramArena } from './types.ts';

/** `imm` of a cast from the addresses of programs (0) to those of user space (1). */
const TO_USER = 1 << 16;

const isCast = ({ code, off }: Insn): boolean =>
  code === (isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X) && off === isa.BPF_ADDR_SPACE_CAST;

/** Loads of arenas that extend a sign are refused once all is known to be safe. */
export function checkArenaLoads(env: Env): void {
  if (env.arena < 0) return;
  for (let at = 0; at < env.insns.length; at++) {
    const { code } = env.insns[at]!;
    const isSigned = isa.BPF_CLASS(code) === isa.BPF_LDX && isa.BPF_MODE(code) === isa.BPF_MEMSX;
    if (isSigned && memoryKind(env.pointerKind[at]!) === 'arena')
      reject('EOPNOTSUPP', 'sign extending loads from arena are not supported yet');
  }
}

export function programArena({ arena, maps }: Env): ProgramArena | undefined {
  return arena < 0 ? undefined : { map: arena, userStart: arenaStart(maps[arena]!) };
}

/**
 * Instructions as they run: variables are user addresses; arithmetic with pointers of programs has 32 bits, and a cast to such a pointer is a move
 * of 32 bits; so is one to user space where the arena converts nothing. Other casts to user space are left: they need the arena's address.
 */
export function lowerArena(env: Env, insns: readonly Insn[]): readonly Insn[] {
  const arena = programArena(env);
  if (arena === undefined) return insns;
  const keepsShort = ((env.maps[arena.map]!.flags ?? 0) & MAP_FLAG.BPF_F_NO_USER_CONV) !== 0;
  const list = insns.slice();
  for (let at = 0; at < list.length; at++) {
    const insn = list[at]!;
    if (isa.isLdImm64(insn)) {
      if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE && insn.imm === arena.map) {
        const high = list[at + 1]!;
        const address = arena.userStart + BigInt(high.imm >>> 0);
        list[at] = { ...insn, src: 0, imm: Number(BigInt.asIntN(32, address)) };
        list[at + 1] = { ...high, imm: Number(BigInt.asIntN(32, address >> 32n)) };
      }
      at++;
    } else if (isCast(insn)) {
      if (insn.imm === TO_USER && !keepsShort) continue;
      list[at] = { ...insn, code: isa.BPF_ALU | isa.BPF_MOV | isa.BPF_X, off: 0, imm: 0 };
    } else if (env.arena32.has(at)) {
      list[at] = { ...insn, code: isa.BPF_ALU | isa.BPF_OP(insn.code) | isa.BPF_SRC(insn.code) };
    }
  }
  return list;
}
