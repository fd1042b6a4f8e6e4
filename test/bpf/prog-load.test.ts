/** What BPF_PROG_LOAD and BPF_PROG_TEST_RUN answer to attributes that do not go together, next to the kernel where root may. */
import { afterAll, describe, expect, it } from 'vitest';
import {
  ATTACH_TYPES,
  assemble,
  bpf,
  createMachine,
  ERRNO,
  PROG_TYPES,
  verify,
} from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const insns = assemble('r0 = 1\n exit');
const BPF_F_SLEEPABLE = 16;

function load(attr: { progType: string | number; expectedAttachType?: string | number; progFlags?: number }) {
  const machine = createMachine();
  const whole: Parameters<typeof bpf<'prog_load'>>[2] = { ...attr, insns, license: 'GPL' };
  const fd = bpf(machine, 'prog_load', whole);
  return { machine, fd, log: whole.log ?? '' };
}
const answer = (fd: number): number => Math.min(fd, 0);

afterAll(() => kernelBpf.closeAll());

describe('the attach type of a program', () => {
  it('has to be one of its type', () => {
    const fd = (progType: string, expectedAttachType?: string) =>
      answer(load({ progType, ...(expectedAttachType === undefined ? {} : { expectedAttachType }) }).fd);
    expect(fd('cgroup_sock_addr')).toBe(-ERRNO.EINVAL);
    expect(fd('cgroup_sock_addr', 'cgroup_unix_recvmsg')).toBe(0);
    expect(fd('cgroup_sock_addr', 'cgroup_inet4_post_bind')).toBe(-ERRNO.EINVAL);
    expect(fd('cgroup_sock')).toBe(0);
    expect(fd('cgroup_skb', 'xdp')).toBe(-ERRNO.EINVAL);
    expect(fd('sk_lookup')).toBe(-ERRNO.EINVAL);
    expect(fd('sk_lookup', 'sk_lookup')).toBe(0);
    expect(fd('xdp', 'netfilter')).toBe(0);
  });

  it('is looked at as the kernel does, for every type', unless(kernelBpf.reason), () => {
    // Tracing programs need a target of the kernel; on some machines that is for nobody.
    const skipped = ['unspec', 'tracing', 'lsm', 'ext', 'struct_ops'];
    const attachTypes = ATTACH_TYPES.slice(0, 58);
    let compared = 0;
    for (const [type, name] of PROG_TYPES.entries()) {
      if (skipped.includes(name)) continue;
      const flags = name === 'syscall' ? BPF_F_SLEEPABLE : 0;
      const ours = attachTypes.map((attachName, attach) => {
        const { fd } = load({ progType: type, expectedAttachType: attach, progFlags: flags });
        return `${name} ${attachName} ${answer(fd)}`;
      });
      const theirs = attachTypes.map((attachName, attach) => {
        const { fd } = kernelBpf.progLoad({ type, insns, flags, expectedAttachType: attach });
        kernelBpf.close(fd);
        return `${name} ${attachName} ${answer(fd)}`;
      });
      // Not every kernel is built with every type (infrared receivers).
      if (theirs.every((text) => text.endsWith(` ${-ERRNO.EINVAL}`))) continue;
      expect(ours).toEqual(theirs);
      compared++;
    }
    expect(compared).toBeGreaterThan(20);
  });
});

describe('programs that need more than a machine has', () => {
  it('are told in the words of the kernel', () => {
    const target = { fd: -ERRNO.EINVAL, log: 'Tracing programs must provide btf_id\n' };
    for (const progType of ['tracing', 'lsm', 'ext']) expect(load({ progType })).toMatchObject(target);
    const syscall = { fd: -ERRNO.EINVAL, log: 'Syscall programs can only be sleepable\n' };
    expect(load({ progType: 'syscall' })).toMatchObject(syscall);
    const xdp = load({ progType: 'xdp', progFlags: BPF_F_SLEEPABLE });
    expect(xdp.fd).toBe(-ERRNO.EINVAL);
    expect(xdp.log).toContain('Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs');
    expect(load({ progType: 'struct_ops' }).fd).toBe(-ERRNO.ENOTSUPP);
    expect(load({ progType: 'unspec' }).fd).toBe(-ERRNO.EINVAL);
  });

  it('say so before anything else', () => {
    const machine = createMachine();
    const attr = { progType: 'xdp', insns, license: 'GPL' };
    for (const logLevel of [16, 255])
      expect(bpf(machine, 'prog_load', { ...attr, logLevel })).toBe(-ERRNO.EINVAL);
    expect(bpf(machine, 'prog_load', { ...attr, insns: [], progName: 'a b' })).toBe(-ERRNO.E2BIG);
    expect(bpf(machine, 'prog_load', { ...attr, insns: [], progFlags: 1 << 20 })).toBe(-ERRNO.EINVAL);
  });
});

describe('the helpers of a program type', () => {
  /** As Linux 6.12 answers; later kernels have given some of them to more types. */
  const refused = {
    current_task_under_cgroup: ['xdp', 'sched_cls', 'socket_filter', 'netfilter'],
    get_netns_cookie: ['sched_cls', 'sched_act', 'cgroup_skb'],
    get_retval: ['cgroup_skb', 'sock_ops', 'cgroup_device', 'cgroup_sysctl'],
    skb_pull_data: ['lwt_seg6local'],
    get_attach_cookie: ['syscall'],
    get_func_arg_cnt: ['syscall'],
    seq_write: ['syscall'],
    ima_inode_hash: ['syscall'],
  };
  for (const [helper, types] of Object.entries(refused)) {
    it(`${helper} is not for ${types.join(', ')}`, () => {
      for (const type of types) {
        const call = assemble(`r2 = 0\n r3 = 0\n r4 = 0\n r5 = 0\n call bpf_${helper}\n r0 = 1\n exit`);
        expect(() => verify({ type: type as 'xdp', insns: call }), type).toThrow(
          `program of this type cannot use helper bpf_${helper}#`,
        );
      }
    });
  }

  it('as before for those that have them', () => {
    const call = (helper: string) => assemble(`call bpf_${helper}\n r0 = 1\n exit`);
    verify({ type: 'cgroup_device', attachType: 'cgroup_device', insns: call('get_retval') });
    verify({ type: 'kprobe', insns: call('get_attach_cookie') });
    verify({ type: 'cgroup_sock', insns: call('get_netns_cookie') });
  });

  it('bpf_loop counts with a number', () => {
    const call = assemble('call bpf_loop\n r0 = 0\n exit');
    expect(() => verify({ type: 'xdp', insns: call })).toThrow('R1 type=ctx expected=scalar');
  });

  it('bpf_sk_assign takes no socket in sk_lookup programs only', () => {
    const call = assemble('r2 = 0\n r3 = 0\n call bpf_sk_assign\n r0 = 1\n exit');
    expect(() => verify({ type: 'sched_cls', insns: call })).toThrow(
      'R2 type=scalar expected=sock_common, sock',
    );
    verify({ type: 'sk_lookup', attachType: 'sk_lookup', insns: call });
  });

  it('bpf_read_branch_records may be asked for their number alone', () => {
    const call = assemble('r2 = 0\n r3 = 0\n r4 = 1\n call bpf_read_branch_records\n r0 = 1\n exit');
    verify({ type: 'perf_event', insns: call });
  });
});

describe('odd test runs', () => {
  const u32 = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
  const dataIn = new Uint8Array(400);

  /** The errno here and in the kernel, which get the same. */
  function both(
    progType: string,
    run: { dataIn?: Uint8Array; ctxIn?: Uint8Array; cpu?: number; out?: boolean },
  ) {
    const { machine, fd } = load({ progType });
    const { out = false, ...attr } = run;
    const room = out ? { ctxOut: new Uint8Array(4096) } : {};
    const own = bpf(machine, 'prog_test_run', { progFd: fd, ...attr, ...room });
    if (kernelBpf.reason !== undefined) return { own, kernel: own };
    const kernelFd = kernelBpf.progLoad({ type: PROG_TYPES.indexOf(progType as never), insns }).fd;
    const { error } = kernelBpf.progTestRun(kernelFd, { ...attr, ctxOutSize: out ? 4096 : 0 });
    kernelBpf.close(kernelFd);
    return { own, kernel: error };
  }
  const same = (errno: number) => ({ own: errno, kernel: errno });

  it('with a context of more than a page', () => {
    for (const type of ['socket_filter', 'sched_cls', 'flow_dissector']) {
      const ctxIn = new Uint8Array(4097);
      expect([type, both(type, { dataIn, ctxIn })]).toEqual([type, same(-ERRNO.E2BIG)]);
    }
    expect(both('flow_dissector', { dataIn, ctxIn: u32(...new Array(14).fill(0), 1) })).toEqual(
      same(-ERRNO.E2BIG),
    );
  });

  it('with more metadata than there is room for', () => {
    expect(both('xdp', { dataIn, ctxIn: u32(216, 400, 0, 0, 0, 0) })).toEqual(same(0));
    expect(both('xdp', { dataIn, ctxIn: u32(220, 400, 0, 0, 0, 0) })).toEqual(same(-ERRNO.EINVAL));
  });

  it('of types without any, on whatever CPU', () => {
    for (const type of ['kprobe', 'lwt_seg6local'])
      expect([type, both(type, { dataIn, cpu: 7 })]).toEqual([type, same(-ERRNO.ENOTSUPP)]);
  });

  it('of raw tracepoints, which give no context back', () => {
    const ctxIn = new Uint8Array(96);
    expect(both('raw_tracepoint', { ctxIn, out: true })).toEqual(same(-ERRNO.EINVAL));
    expect(both('raw_tracepoint', { ctxIn })).toEqual(same(0));
  });

  it('with a segment size of more than 16 bits', () => {
    const machine = createMachine();
    const text = assemble('r0 = *(u32 *)(r1 +176)\n exit');
    const progFd = bpf(machine, 'prog_load', { progType: 'sched_cls', insns: text, license: 'GPL' });
    const ctxIn = new Uint8Array(192);
    ctxIn.set(u32(70_000), 176);
    const attr = { progFd, dataIn, ctxIn, retval: 0 };
    expect(bpf(machine, 'prog_test_run', attr)).toBe(0);
    expect(attr.retval).toBe(4464);
  });
});

describe('other calls', () => {
  it('with descriptors of nothing', () => {
    const machine = createMachine();
    expect(bpf(machine, 'obj_get_info_by_fd', { bpfFd: 99 })).toBe(-ERRNO.EBADFD);
    const { machine: other, fd } = load({ progType: 'raw_tracepoint' });
    expect(bpf(other, 'raw_tracepoint_open', { progFd: fd })).toBe(-ERRNO.EFAULT);
    const outer = {
      mapType: 'array_of_maps',
      keySize: 4,
      valueSize: 4,
      maxEntries: 1,
      innerMapFd: 99,
    } as const;
    expect(bpf(machine, 'map_create', outer)).toBe(-ERRNO.EBADF);
    expect(bpf(machine, 'map_create', { ...outer, valueSize: 8 })).toBe(-ERRNO.EINVAL);
  });

  it('of batches without room say that nothing was done', () => {
    const machine = createMachine();
    const spec = { mapType: 'hash', keySize: 4, valueSize: 4, maxEntries: 4 } as const;
    const mapFd = bpf(machine, 'map_create', { ...spec, mapFlags: 4, numaNode: 0xffff_ffff });
    const keys = new Uint8Array(8);
    const outBatch = new Uint8Array(4);
    const lookup = { mapFd, keys, outBatch, count: 2 };
    // Nothing is there to be copied.
    expect(bpf(machine, 'map_lookup_batch', lookup)).toBe(-ERRNO.ENOENT);
    expect(bpf(machine, 'map_update_elem', { mapFd, key: keys.subarray(4), value: keys.subarray(4) })).toBe(
      0,
    );
    const again = { mapFd, keys, outBatch, count: 2 };
    expect(bpf(machine, 'map_lookup_batch', again)).toBe(-ERRNO.EFAULT);
    const update = { mapFd, keys, count: 2 };
    expect(bpf(machine, 'map_update_batch', update)).toBe(-ERRNO.EFAULT);
    expect([lookup.count, again.count, update.count]).toEqual([0, 0, 0]);
  });
});
