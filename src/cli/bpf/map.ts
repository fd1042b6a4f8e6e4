import { mapContents } from './contents.ts';
import { execute, runInput } from './execute.ts';
import { emit } from './files.ts';
import { readInput } from './input.ts';
import { findMap, type Loaded, loadInput, loadWhole } from './load.ts';
import type { BpfArguments } from './options.ts';

/** `trapline bpf map` */
export async function mapCommand(args: BpfArguments): Promise<number> {
  const loaded = load(args);
  const names = args.list('map');
  for (const name of names) findMap(loaded.maps, name);
  let text = '';
  for (const [name, map] of loaded.maps) {
    if (names.length > 0 && !names.includes(name)) continue;
    const contents = mapContents(loaded, map, loaded.object?.spec.maps.get(name), args.json);
    const { type, keySize, valueSize, maxEntries } = map.spec;
    if (args.json) {
      text += `{"name":${JSON.stringify(name)},"id":${map.id},"type":${JSON.stringify(type)},"elements":${contents}}\n`;
    } else {
      text += `${map.id}: ${type}  name ${name}  key ${keySize}B  value ${valueSize}B  max_entries ${maxEntries}\n${contents}\n`;
    }
  }
  emit(args.text('output'), text);
  return 0;
}

/** With a program to run, that one; else the whole object. */
function load(args: BpfArguments): Pick<Loaded, 'maps' | 'object'> {
  const input = readInput(args);
  const runs = args.has('data-in') || args.has('ctx-in');
  if (input.kind === 'object' && !runs && !args.has('prog') && !args.has('type')) {
    return loadWhole(args, input.object);
  }
  const loaded = loadInput(args, input);
  if (runs) execute(loaded, runInput(args, loaded));
  return loaded;
}
