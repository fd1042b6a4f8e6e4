/** The loop over the opcodes of RFC 9669's table (___bpf_prog_run of kernel/bpf/core.c). */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { alu32, divide64, isTaken32, isTaken64, mulHigh, swapBytes } from './arithmetic.ts';
import { FIELDS } from './decode.ts';
import type { ProgramMemory } from './memory.ts';
import type { InterpreterOptions } from './options.ts';

const SIZES = [4, 2, 1, 8] as const;

/** What the loop works on: an execution (`execution.ts`). */
export interface LoopState {
  readonly options: InterpreterOptions;
  readonly memory: ProgramMemory;
  readonly words: Int32Array;
  readonly regs: BigUint64Array;
  readonly frames: readonly unknown[];
  readonly insns: readonly Insn[];
  readonly code: Int32Array;
  pc: number;
  steps: number;
  readonly exited: boolean;
  budget: number;
  unknown(pc: number): never;
  atomic(insn: Insn, bytes: number): void;
  arena(insn: Insn): void;
  wide(insn: Insn): void;
  packetLoad(insn: Insn): void;
  call(insn: Insn): void;
  exit(): void;
}

/** Runs until `steps` is `limit`, the program exits, or it is back in frame `depth`. */
export function execute(vm: LoopState, limit: number, depth: number): void {
  const { words, memory } = vm;
  const { little } = memory;
  const { probes, arena } = vm.options;
  const arenaSlots = arena?.slots;
  let { code } = vm;
  let { view } = memory;
  let length = view.byteLength;
  let { pc, steps } = vm;
  try {
    for (;;) {
      if (steps >= limit) {
        vm.pc = pc;
        return;
      }
      const at = pc * FIELDS;
      if (pc < 0 || at >= code.length) {
        vm.pc = pc;
        throw new BpfError('EINVAL', `control left the program to ${pc}`);
      }
      steps++;
      const opcode = code[at]!;
      const dst = code[at + 1]!;
      const src = code[at + 2]!;
      const off = code[at + 3]!;
      const imm = code[at + 4]!;
      const aLow = words[dst]!;
      const aHigh = words[dst + 1]!;
      const bLow = src < 0 ? imm : words[src]!;
      const bHigh = src < 0 ? imm >> 31 : words[src + 1]!;
      pc++;
      switch (opcode) {
        // ALU64
        case 0x07:
        case 0x0f: {
          const low = (aLow + bLow) | 0;
          words[dst] = low;
          words[dst + 1] = aHigh + bHigh + (low >>> 0 < aLow >>> 0 ? 1 : 0);
          break;
        }
        case 0x17:
        case 0x1f:
          words[dst] = aLow - bLow;
          words[dst + 1] = aHigh - bHigh - (aLow >>> 0 < bLow >>> 0 ? 1 : 0);
          break;
        case 0x27:
        case 0x2f:
          words[dst] = Math.imul(aLow, bLow);
          words[dst + 1] = mulHigh(aLow, bLow) + Math.imul(aLow, bHigh) + Math.imul(aHigh, bLow);
          break;
        case 0x37:
        case 0x3f:
        case 0x97:
        case 0x9f: {
          const isMod = opcode >= 0x90;
          if ((aHigh | bHigh) === 0 && aLow >= 0 && bLow > 0) {
            // As small numbers, signed or not.
            words[dst] = isMod ? aLow % bLow : aLow / bLow;
          } else {
            const { regs } = vm;
            const divisor = src < 0 ? BigInt.asUintN(64, BigInt(imm)) : regs[src >> 1]!;
            regs[dst >> 1] = divide64(regs[dst >> 1]!, divisor, off === 1, isMod);
          }
          break;
        }
        case 0x47:
        case 0x4f:
          words[dst] = aLow | bLow;
          words[dst + 1] = aHigh | bHigh;
          break;
        case 0x57:
        case 0x5f:
          words[dst] = aLow & bLow;
          words[dst + 1] = aHigh & bHigh;
          break;
        case 0x67:
        case 0x6f: {
          const count = bLow & 63;
          if (count >= 32) {
            words[dst] = 0;
            words[dst + 1] = aLow << count;
          } else if (count > 0) {
            words[dst] = aLow << count;
            words[dst + 1] = (aHigh << count) | (aLow >>> (32 - count));
          }
          break;
        }
        case 0x77:
        case 0x7f:
        case 0xc7:
        case 0xcf: {
          const count = bLow & 63;
          const sign = opcode >= 0xc0 ? aHigh >> 31 : 0;
          if (count >= 32) {
            words[dst] = opcode >= 0xc0 ? aHigh >> count : aHigh >>> count;
            words[dst + 1] = sign;
          } else if (count > 0) {
            words[dst] = (aLow >>> count) | (aHigh << (32 - count));
            words[dst + 1] = opcode >= 0xc0 ? aHigh >> count : aHigh >>> count;
          }
          break;
        }
        case 0x87:
          words[dst] = -aLow;
          words[dst + 1] = aLow === 0 ? -aHigh : ~aHigh;
          break;
        case 0xa7:
        case 0xaf:
          words[dst] = aLow ^ bLow;
          words[dst + 1] = aHigh ^ bHigh;
          break;
        case 0xb7:
        case 0xbf:
          if (off === 0) {
            words[dst] = bLow;
            words[dst + 1] = bHigh;
          } else if (off === isa.BPF_ADDR_SPACE_CAST && src >= 0) {
            // What is NULL within an arena is NULL in user space.
            words[dst] = bLow;
            words[dst + 1] = bLow === 0 || arena === undefined ? 0 : arena.userHigh;
          } else if (src >= 0 && (off === 8 || off === 16 || off === 32)) {
            const low = (bLow << (32 - off)) >> (32 - off);
            words[dst] = low;
            words[dst + 1] = low >> 31;
          } else vm.unknown(pc - 1);
          break;
        // ALU: the high half becomes 0.
        case 0xb4:
        case 0xbc:
          if (off === 0) words[dst] = bLow;
          else if (src >= 0 && (off === 8 || off === 16)) {
            words[dst] = (bLow << (32 - off)) >> (32 - off);
          } else vm.unknown(pc - 1);
          words[dst + 1] = 0;
          break;
        case 0x04:
        case 0x0c:
        case 0x14:
        case 0x1c:
        case 0x24:
        case 0x2c:
        case 0x34:
        case 0x3c:
        case 0x44:
        case 0x4c:
        case 0x54:
        case 0x5c:
        case 0x64:
        case 0x6c:
        case 0x74:
        case 0x7c:
        case 0x94:
        case 0x9c:
        case 0xa4:
        case 0xac:
        case 0xc4:
        case 0xcc:
        case 0x84:
          words[dst] = alu32(opcode >> 4, aLow, bLow, off)!;
          words[dst + 1] = 0;
          break;
        // Byte order: le, be, bswap.
        case 0xd4:
        case 0xdc:
        case 0xd7:
          if (imm === 16) {
            words[dst] = opcode === 0xd4 ? aLow & 0xffff : ((aLow & 0xff) << 8) | ((aLow >>> 8) & 0xff);
            words[dst + 1] = 0;
          } else if (imm === 32) {
            if (opcode !== 0xd4) words[dst] = swapBytes(aLow);
            words[dst + 1] = 0;
          } else if (imm !== 64) vm.unknown(pc - 1);
          else if (opcode !== 0xd4) {
            words[dst] = swapBytes(aHigh);
            words[dst + 1] = swapBytes(aLow);
          }
          break;
        // Loads: u32, u16, u8, u64, then s32, s16, s8.
        case 0x61:
        case 0x69:
        case 0x71:
        case 0x79:
        case 0x81:
        case 0x89:
        case 0x91: {
          let address = (bLow + off) >>> 0;
          const bytes = SIZES[(opcode >> 3) & 3]!;
          if (arenaSlots?.has(pc - 1) === true) {
            address = arena!.whole((bLow >>> 0) + off, bytes);
            if (address === 0) {
              vm.pc = pc - 1;
              vm.arena(vm.insns[pc - 1]!);
              break;
            }
          }
          if (probes?.has(pc - 1) === true && memory.isBad(bLow, bHigh, off, bytes)) {
            words[dst] = 0;
            words[dst + 1] = 0;
            break;
          }
          if (address + bytes > length) {
            vm.pc = pc - 1;
            view = memory.grown(address, bytes, pc - 1);
            length = view.byteLength;
          }
          let low: number;
          let high = 0;
          switch (opcode) {
            case 0x61:
              low = view.getInt32(address, little);
              break;
            case 0x69:
              low = view.getUint16(address, little);
              break;
            case 0x71:
              low = view.getUint8(address);
              break;
            case 0x79:
              low = view.getInt32(little ? address : address + 4, little);
              high = view.getInt32(little ? address + 4 : address, little);
              break;
            case 0x81:
              low = view.getInt32(address, little);
              high = low >> 31;
              break;
            case 0x89:
              low = view.getInt16(address, little);
              high = low >> 31;
              break;
            default:
              low = view.getInt8(address);
              high = low >> 31;
          }
          words[dst] = low;
          words[dst + 1] = high;
          break;
        }
        // Stores of an immediate and of a register.
        case 0x62:
        case 0x6a:
        case 0x72:
        case 0x7a:
        case 0x63:
        case 0x6b:
        case 0x73:
        case 0x7b: {
          let address = (aLow + off) >>> 0;
          const bytes = SIZES[(opcode >> 3) & 3]!;
          if (arenaSlots?.has(pc - 1) === true) {
            address = arena!.whole((aLow >>> 0) + off, bytes);
            if (address === 0) {
              vm.pc = pc - 1;
              vm.arena(vm.insns[pc - 1]!);
              break;
            }
          }
          if (address + bytes > length) {
            vm.pc = pc - 1;
            view = memory.grown(address, bytes, pc - 1);
            length = view.byteLength;
          }
          const isImmediate = (opcode & 1) === 0;
          const low = isImmediate ? imm : bLow;
          if (bytes === 8) {
            view.setInt32(little ? address : address + 4, low, little);
            view.setInt32(little ? address + 4 : address, isImmediate ? imm >> 31 : bHigh, little);
          } else if (bytes === 4) view.setInt32(address, low, little);
          else if (bytes === 2) view.setInt16(address, low, little);
          else view.setInt8(address, low);
          break;
        }
        case 0xc3:
        case 0xcb:
        case 0xd3:
        case 0xdb:
          vm.pc = pc - 1;
          if (arenaSlots?.has(pc - 1) === true) vm.arena(vm.insns[pc - 1]!);
          else vm.atomic(vm.insns[pc - 1]!, SIZES[(opcode >> 3) & 3]!);
          break;
        // lddw, and the packet loads.
        case 0x18:
          vm.pc = pc - 1;
          vm.wide(vm.insns[pc - 1]!);
          pc++;
          break;
        case 0x20:
        case 0x28:
        case 0x30:
        case 0x40:
        case 0x48:
        case 0x50:
          vm.pc = pc - 1;
          vm.packetLoad(vm.insns[pc - 1]!);
          if (vm.exited || vm.frames.length === depth) return;
          pc = vm.pc;
          break;
        // Jumps.
        case 0x05:
          pc += off;
          break;
        case 0x06:
          pc += imm;
          break;
        case 0x15:
        case 0x1d:
        case 0x25:
        case 0x2d:
        case 0x35:
        case 0x3d:
        case 0x45:
        case 0x4d:
        case 0x55:
        case 0x5d:
        case 0x65:
        case 0x6d:
        case 0x75:
        case 0x7d:
        case 0xa5:
        case 0xad:
        case 0xb5:
        case 0xbd:
        case 0xc5:
        case 0xcd:
        case 0xd5:
        case 0xdd:
          if (isTaken64(opcode >> 4, aLow, aHigh, bLow, bHigh)!) pc += off;
          break;
        case 0x16:
        case 0x1e:
        case 0x26:
        case 0x2e:
        case 0x36:
        case 0x3e:
        case 0x46:
        case 0x4e:
        case 0x56:
        case 0x5e:
        case 0x66:
        case 0x6e:
        case 0x76:
        case 0x7e:
        case 0xa6:
        case 0xae:
        case 0xb6:
        case 0xbe:
        case 0xc6:
        case 0xce:
        case 0xd6:
        case 0xde:
          if (isTaken32(opcode >> 4, aLow, bLow)!) pc += off;
          break;
        // may_goto
        case 0xe5:
          if (vm.budget === 0) pc += off;
          else vm.budget--;
          break;
        // Calls, callx, the kernel's own tail call, exit.
        case 0x85:
        case 0x8d:
        case 0xf5:
        case 0x95:
          vm.pc = pc - 1;
          vm.steps = steps;
          if (opcode === 0x95) vm.exit();
          else vm.call(vm.insns[pc - 1]!);
          pc = vm.pc;
          code = vm.code;
          steps = vm.steps;
          view = memory.view;
          length = view.byteLength;
          if (vm.exited || vm.frames.length === depth) return;
          break;
        default:
          vm.unknown(pc - 1);
      }
    }
  } finally {
    // Callbacks count on.
    if (steps > vm.steps) vm.steps = steps;
  }
}
