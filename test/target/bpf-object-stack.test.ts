/** What a program of clang asks of its hit on a process: the stack's addresses, the function's, the attachment's cookie. */
import { describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { attachCommand, objectOnProcess, shop } from './attach-command.ts';

const { file, run } = objectOnProcess('on-process-stack.o');

interface Seen {
  readonly ip: bigint;
  readonly cookie: bigint;
  readonly calls: bigint;
}

describe.each(nodeBinaries())(
  'the hit of a tracing program on a process, Node $version',
  ({ path: node }) => {
    test('stacks as addresses, the function, cookies of each attachment', async () => {
      const service = await shop(node);
      const before = await service.ask('state');
      const cookies = {
        on_greet: 7,
        on_second: 2n ** 53n - 1n,
        on_return: 0x1_0000_0002n,
        on_event: 8,
        on_raw: 9,
      };
      const one = await run(service.pid, { cookies });
      // By a binding's first call, where it is not edited.
      await service.ask('salute', { names: ['nobody'] });
      const seen = async (name: string): Promise<Seen> => (await one.get(name)) as unknown as Seen;
      const calls = (await seen('entry')).calls;
      await service.ask('salute', { names: ['Ada', 'Grace', 'Edsger'] });
      await service.ask('checkout', { times: 2 });
      await one.flush();

      const entry = await seen('entry');
      expect(entry.calls - calls).toBe(3n);
      expect(entry.cookie).toBe(7n);
      expect(one.frame(entry.ip)).toBe('events.cjs:greet');
      expect(await seen('second')).toEqual({ ...entry, cookie: 2n ** 53n - 1n });
      // A program that is called runs for the attachment of who calls it.
      expect(await seen('called')).toEqual(entry);
      const returned = await seen('returned');
      expect([returned.ip, returned.cookie]).toEqual([entry.ip, 0x1_0000_0002n]);
      expect(await seen('event')).toEqual({ ip: 0n, cookie: 8n, calls: 2n });
      expect(await seen('raw')).toEqual({ ip: 0n, cookie: 9n, calls: 2n });

      const words = async (name: string): Promise<bigint[]> => (await one.get(name)) as bigint[];
      const stack = await words('stack');
      const depth = Number((await one.get('stack_bytes')) as bigint) / 8;
      const frames = stack.slice(0, depth).map((address) => one.frame(address));
      expect(frames[0]).toMatch(/^greet \(.*events\.cjs/);
      expect(frames.slice(1).join()).toMatch(/salute \(.*events\.cjs:\d+:\d+\)/);
      expect(frames).not.toContain(undefined);
      expect(stack.slice(depth)).toEqual(new Array(8 - depth).fill(0n));
      // Without the first, the others are the same addresses.
      const callers = await words('callers');
      const fewer = Number((await one.get('caller_bytes')) as bigint) / 8;
      expect(callers.slice(0, depth - 1)).toEqual(stack.slice(1, depth));
      expect(callers.slice(fewer)).toEqual(new Array(8 - fewer).fill(0n));
      // struct bpf_stack_build_id: no file is known, the address is.
      const byId = (await one.get('by_id')) as unknown as {
        status: bigint | number;
        id: unknown;
        ip: bigint;
      }[];
      expect(Number(await one.get('id_bytes'))).toBe(32 * Math.min(3, fewer + 1));
      expect(byId.map(({ status, ip }) => [Number(status), ip])).toEqual(
        stack.slice(0, 3).map((address) => [address === 0n ? 0 : 2, address]),
      );

      // As the kernel refuses; the buffer is zeroed.
      expect(await one.get('bad_flag')).toBe(-22n);
      expect(await one.get('bad_size')).toBe(-22n);
      expect(await one.get('id_of_kernel')).toBe(-22n);
      expect(await one.get('too_deep')).toBe(-14n);
      expect(await words('refused_buffer')).toEqual([0n, 0n]);

      const eventDepth = Number((await one.get('event_bytes')) as bigint) / 8;
      expect(eventDepth).toBeGreaterThan(0);
      const told = (await words('event_stack')).slice(0, eventDepth).map((address) => one.frame(address));
      expect(told.join()).toMatch(/checkout \(.*events\.cjs:\d+:\d+\)/);
      expect([...one.frames().values()]).toEqual(expect.arrayContaining(['events.cjs:greet', ...told]));

      expect((await one.detach()).failures).toEqual([]);
      expect(await service.ask('state')).toEqual(before);
    });

    test('a cookie for nobody, and one that is too large', async () => {
      const service = await shop(node);
      const refusal = async (cookies: Record<string, number | bigint>): Promise<unknown> =>
        await run(service.pid, { cookies }).catch((error: unknown) => error);
      expect(await refusal({ on_gret: 1 })).toMatchObject({
        code: 'ENOENT',
        message: 'a cookie for on_gret: no such program is attached to a place',
      });
      expect(await refusal({ on_called: 1 })).toMatchObject({ code: 'ENOENT' });
      expect(await refusal({ on_greet: 2n ** 53n })).toMatchObject({ code: 'EINVAL' });
      expect(await refusal({ on_greet: -1 })).toMatchObject({ code: 'EINVAL' });
    });

    test('on the command line', async () => {
      const service = await shop(node);
      const { out, end } = await attachCommand(file, service.pid, [
        '--cookie',
        'on_second=0x10',
        '--max-pause',
        '60000',
      ]);
      await service.ask('salute', { names: ['Ada', 'Grace'] });
      expect(await end()).toBe(0);
      expect(out()).toMatch(/"?second"?: \{[^}]*cookie"?: 16/);
      expect(out()).toMatch(/^0x[0-9a-f]+ {2}events\.cjs:greet$/m);
      expect(out()).toMatch(/^0xffffa000[0-9a-f]{8} {2}greet \(.*events\.cjs.*\)$/m);
    });
  },
);
