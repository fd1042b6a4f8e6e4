import { describe, expect, it } from 'vitest';
import { ProgramBuilder, R1 } from '../../src/bpf/builder.ts';
import { HELPERS, helperById } from '../../src/bpf/index.ts';
import * as isa from '../../src/bpf/isa.ts';
import { helperReads, kprobeContext, readsOf } from '../../src/kernel/trace/bpf-trace.ts';
import { JS_KFUNCS } from '../../src/kernel/trace/js-kfuncs.ts';
import { argumentRef, HANDLE_TAG, PT_REGS, READS, registerRef } from '../../src/kernel/trace/pt-regs.ts';

describe('helper declarations', () => {
  it('have the ids of the instruction set, each once', () => {
    const ids = isa as unknown as Record<string, number>;
    const seen = new Set<number>();
    for (const [name, proto] of Object.entries(HELPERS)) {
      expect(proto.name).toBe(name);
      expect(proto.id, name).toBe(ids[`BPF_FUNC_${name}`]);
      expect(seen.has(proto.id)).toBe(false);
      seen.add(proto.id);
      expect(helperById(proto.id)).toBe(proto);
      expect(proto.wasm.params).toHaveLength(proto.args.length);
      expect(proto.args.length).toBeLessThanOrEqual(5);
    }
  });

  it('give every size its memory, and maps before keys', () => {
    for (const { name, args } of Object.values(HELPERS)) {
      for (const [n, type] of args.entries()) {
        if (type === 'const_size' || type === 'const_size_or_zero') expect(args[n - 1], name).toMatch(/mem/);
        if (type === 'map_key' || type === 'map_value') expect(args[0], name).toBe('const_map_ptr');
      }
    }
  });
});

describe('kprobe programs', () => {
  it('read registers, aligned and whole or in part, and write none', () => {
    expect(kprobeContext.access(112, 8, false)).toBe('scalar');
    expect(kprobeContext.access(116, 4, false)).toBe('scalar');
    expect(kprobeContext.access(113, 1, false)).toBe('scalar');
    expect(kprobeContext.access(116, 8, false)).toBeUndefined();
    expect(kprobeContext.access(168, 8, false)).toBeUndefined();
    expect(kprobeContext.access(-8, 8, false)).toBeUndefined();
    expect(kprobeContext.access(112, 8, true)).toBeUndefined();
  });

  it('tell a site what to convert', () => {
    const reads = (offsets: number[], kfuncs: (keyof typeof JS_KFUNCS)[] = []): number =>
      readsOf({ ctxReads: new Set(offsets), kfuncsUsed: kfuncs.map((name) => JS_KFUNCS[name]), insns: [] });
    expect(reads([])).toBe(0);
    expect(reads([PT_REGS.di, PT_REGS.r9])).toBe(0b100001);
    expect(reads([PT_REGS.si + 4])).toBe(0b10);
    expect(reads([PT_REGS.ax, PT_REGS.r10, PT_REGS.r11])).toBe(READS.retval | READS.this | READS.error);
    expect(reads([PT_REGS.r12, PT_REGS.bx, PT_REGS.ip])).toBe(READS.argc | READS.cookie | READS.ip);
    expect(reads([PT_REGS.flags], ['js_arg', 'js_len'])).toBe(READS.allArgs);
    const named = (...values: bigint[]): number => {
      const b = new ProgramBuilder();
      for (const value of values) b.lddw(R1, value);
      return readsOf({ ctxReads: new Set(), kfuncsUsed: [], insns: b.build() });
    };
    expect(named(argumentRef(0), argumentRef(5))).toBe(READS.raw | 0b100001);
    expect(named(argumentRef(6))).toBe(READS.raw | READS.allArgs);
    expect(named(registerRef('r10'), registerRef('ax'), registerRef('r11'))).toBe(
      READS.raw | READS.this | READS.retval | READS.error,
    );
    expect(helperReads({ helpersUsed: ['get_stack', 'ktime_get_ns'] })).toBe(0);
    expect(helperReads({ helpersUsed: ['get_func_ip', 'get_attach_cookie'] })).toBe(READS.ip | READS.cookie);
    expect(named(registerRef('ax') + 1024n, HANDLE_TAG, registerRef('sp'), 5n)).toBe(0);
  });
});
