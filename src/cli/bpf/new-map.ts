/** Maps that the command line makes for raw instructions, which have no object to declare them. */
import { BPF_MAP_TYPE, type LoadedMap, type Machine, type MapSpec, type MapType } from '../../bpf/index.ts';
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import type { BpfArguments } from './options.ts';

const FORM = 'NAME=TYPE:KEY:VALUE:ENTRIES[:FLAGS]';

/** `--new-map`, in the order they are given. Throws TraplineError EUSAGE. */
export function newMapSpecs(args: BpfArguments): MapSpec[] {
  const specs: MapSpec[] = [];
  for (const text of args.list('new-map')) {
    const spec = parse(text);
    if (specs.some(({ name }) => name === spec.name))
      throw new TraplineError('EUSAGE', `--new-map: there are two maps ${spec.name}`);
    specs.push(spec);
  }
  return specs;
}

function parse(text: string): MapSpec {
  const number = '(0[xX][0-9a-fA-F]+|\\d+)';
  const form = new RegExp(`^([\\w.]{1,15})=(\\w+):${number}:${number}:${number}(?::${number})?$`);
  const [, name, type, ...numbers] = form.exec(text) ?? [];
  if (name === undefined || type === undefined) {
    throw new TraplineError('EUSAGE', `--new-map: ${text} is not ${FORM}`, {
      hint: 'for example --new-map counts=hash:8:8:1024',
    });
  }
  const types: readonly string[] = Object.keys(BPF_MAP_TYPE);
  if (!types.includes(type)) {
    throw new TraplineError('EUSAGE', `--new-map: there is no map type ${type}`, {
      hint: didYouMean(type, types) ?? `one of ${types.join(', ')}`,
    });
  }
  const [keySize = 0, valueSize = 0, maxEntries = 0, flags = 0] = numbers.map((one) => Number(one ?? 0));
  return { name, type: type as MapType, keySize, valueSize, maxEntries, flags };
}

/** Makes them. Throws BpfError where the kernel would refuse one. */
export function createNewMaps(specs: readonly MapSpec[], machine: Machine): LoadedMap[] {
  return specs.map((spec) => machine.createMap(spec));
}
