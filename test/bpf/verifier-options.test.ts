/** Options of the verifier, what it says about a program that it accepts, and its log. */
import { describe, expect, it } from 'vitest';
import { lookup, refusal, verify } from './support-verifier.ts';

describe('options', () => {
  it('let root read stack that was never written', () => {
    expect(verify('r0 = *(u64 *)(r10 -8)\nexit', { allowUninitStack: true }).stackDepth).toBe(16);
  });

  it('make alignment strict', () => {
    const text = `${lookup(1)}\nr1 = *(u64 *)(r0 +4)\nexit`;
    verify(text);
    expect(refusal(text, { strictAlignment: true }).summary).toBe('misaligned value access off 0+0+4 size 8');
  });
});

describe('a verified program', () => {
  it('says what it reads, calls and needs', () => {
    const { ctxReads, helpersUsed, kfuncsUsed, stackDepth, subprogs } = verify(`
      r6 = *(u64 *)(r1 +112)
      r7 = *(u32 *)(r1 +80)
      call bpf_ktime_get_ns#5
      *(u64 *)(r10 -40) = r0
      r1 = r6
      r2 = 1
      call kernel-function#1
      r1 = 1
      call pc+1
      exit
      *(u64 *)(r10 -8) = r1
      r0 = 0
      exit`);
    expect([...ctxReads].sort()).toEqual([112, 80]);
    expect(helpersUsed).toEqual(['ktime_get_ns']);
    expect(kfuncsUsed.map(({ name }) => name)).toEqual(['k_path']);
    expect(stackDepth).toBe(64);
    expect(subprogs).toEqual([0, 10]);
  });

  it('has its dead branches marked', () => {
    const { reachable } = verify('r0 = 1\nif r0 == 0x1 goto pc+1\nr0 = 7\nexit');
    expect(reachable).toEqual([true, true, false, true]);
  });
});

describe('the log', () => {
  it('has instructions and states in the form of the kernel', () => {
    const { log } = verify(
      `r2 = *(u8 *)(r1 +112)
       *(u64 *)(r10 -8) = r2
       r0 = r2
       exit`,
      { logLevel: 2 },
    );
    expect(log.split('\n').slice(0, 5)).toEqual([
      'func#0 @0',
      '0: R1=ctx() R10=fp0',
      '0: (71) r2 = *(u8 *)(r1 +112)         ; R1=ctx() R2_w=scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))',
      '1: (7b) *(u64 *)(r10 -8) = r2         ; R2_w=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R10=fp0 fp-8_w=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))',
      '2: (bf) r0 = r2                       ; R0_w=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff)) R2_w=scalar(id=1,smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))',
    ]);
  });

  it('shows the path that failed only', () => {
    const { log, message } = refusal(
      'r2 = *(u64 *)(r1 +112)\nr0 = 0\nif r2 == 0x5 goto pc+1\nexit\nr0 = r9\nexit',
    );
    expect(message).toBe('program p refused at instruction 4: R9 !read_ok');
    expect(log).toContain('from 2 to 4:');
    expect(log).not.toContain('3: (95) exit');
  });
});
