/** `object.verify()`: the verdict on a program without a machine. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { openObject, ProgramLoadError } from '../../src/bpf/index.ts';

const fixtures = new URL('./fixtures/', import.meta.url);
const open = (name: string) => openObject(new Uint8Array(readFileSync(new URL(name, fixtures))), name);

describe.each(['btf/kernel-maps-14.o', 'btf/kernel-maps-19.o'])('%s', (name) => {
  test('cannot be loaded', () => {
    expect(() => open(name).load()).toThrow('map socks: type sockhash: there are no kernel sockets');
  });

  test('verifies a program of maps that only a kernel has', () => {
    const { type, maps, helpersUsed } = open(name).verify('verdict');
    expect(type).toBe('sk_skb');
    expect(maps.map((map) => map.name)).toContain('socks');
    expect(helpersUsed).toEqual(['sk_redirect_hash']);
  });

  test('constants are those that were set', () => {
    const object = open(name);
    object.globals.set('limit', 8);
    expect(() => object.verify('verdict')).toThrow(ProgramLoadError);
  });

  test('a wrong program is refused at its line', () => {
    const object = open(name);
    expect(() => object.verify('bad')).toThrow("R0 invalid mem access 'map_value_or_null'");
    expect(() => object.verify('none')).toThrow('the object has no program none');
  });
});

test('the verdict is that of load()', () => {
  const object = open('btf/values-19.o');
  const loaded = object.load({ programs: ['prog'], engine: 'interpreter' });
  const { insns, stackDepth, verifiedInsns } = loaded.programs.get('prog')!.verified;
  expect(object.verify('prog')).toMatchObject({ insns, stackDepth, verifiedInsns });
});
