import { anObjectFile } from '../argument-shapes.ts';
import { aRecord, aString, checkArgument, optional, someBytes } from '../arguments.ts';
import type { BpfObject } from '../object/index.ts';
import { mapKind, type TypedMapSpec } from './map-kind.ts';
import { pascalCase, propertyName, TypeScriptTypes } from './typescript-types.ts';

const GENERATE_OPTIONS = aRecord<GenerateOptions>({ contents: someBytes, importFrom: optional(aString) });

export interface GenerateOptions {
  /** The object file's contents, which the module then carries with it. */
  readonly contents: Uint8Array;
  /** What the module imports; `trapline/bpf` unless said. */
  readonly importFrom?: string;
}

/** What the module's text uses. */
const RESERVED = [
  'Arena',
  'LoadedMap',
  'LoadedSkeleton',
  'openSkeleton',
  'Skeleton',
  'TypedBloomFilter',
  'TypedMap',
  'TypedMapOfMaps',
  'TypedPercpuMap',
  'TypedPerfEventArray',
  'TypedProgArray',
  'TypedQueue',
  'TypedRingBuffer',
  'TypedStackTraces',
  'TypedUserRingBuffer',
  'Uint8Array',
  'MAPS',
];

/** The class of a map, and those it uses. The types are asked for only where they are needed: that declares them. */
function mapType(spec: TypedMapSpec, typeOf: (id: number | undefined) => string, used: Set<string>): string {
  const named = (name: string, ...parameters: string[]): string => {
    used.add(name);
    return parameters.length === 0 ? name : `${name}<${parameters.join(', ')}>`;
  };
  const key = (): string => typeOf(spec.keyTypeId);
  const value = (): string => typeOf(spec.valueTypeId);
  switch (mapKind(spec)) {
    case 'raw':
      return named('LoadedMap');
    case 'arena':
      return named('Arena');
    case 'ring':
      return named('TypedRingBuffer');
    case 'user-ring':
      return named('TypedUserRingBuffer');
    case 'perf':
      return named('TypedPerfEventArray');
    case 'stacks':
      return named('TypedStackTraces');
    case 'programs':
      return named('TypedProgArray');
    case 'queue':
      return named('TypedQueue', value());
    case 'bloom':
      return named('TypedBloomFilter', value());
    case 'maps':
      return named('TypedMapOfMaps', key(), mapType(spec.innerMap!, typeOf, used));
    case 'percpu':
      return named('TypedPercpuMap', key(), value());
    case 'typed':
      return named('TypedMap', key(), value());
  }
}

/** A string in the quotes of this project where it can be. */
const literal = (text: string): string => (/^[\w./@ -]*$/.test(text) ? `'${text}'` : JSON.stringify(text));
const counted = (count: number, one: string, many: string): string => `${count} ${count === 1 ? one : many}`;

/** Text in a comment cannot end it. */
const comment = (text: string): string => text.replaceAll('*/', '* /').replace(/[\r\n]/g, ' ');

function base64(bytes: Uint8Array): string {
  let text = '';
  for (let at = 0; at < bytes.length; at += 0x2000)
    text += String.fromCharCode(...bytes.subarray(at, at + 0x2000));
  return btoa(text);
}

/**
 * A TypeScript module for an object: interfaces of its C types, maps with typed keys and values, global variables as typed
 * properties, the names of its programs, and the object itself (as `bpftool gen skeleton` does for C). It compiles under
 * `strict`.
 */
export function generateSkeleton(object: BpfObject, options: GenerateOptions): string {
  checkArgument('generateSkeleton()', 'object', object, anObjectFile);
  checkArgument('generateSkeleton()', 'options', options, GENERATE_OPTIONS);
  const { spec } = object;
  const name = pascalCase(spec.name);
  const title = RESERVED.includes(name) ? `${name}Object` : name;
  const own = [
    title,
    `Loaded${title}`,
    `${title}Maps`,
    `${title}Globals`,
    `${title}Programs`,
    `open${title}`,
    'OBJECT',
  ];
  const types = spec.btf === undefined ? undefined : new TypeScriptTypes(spec.btf, [...RESERVED, ...own]);
  const typeOf = (id: number | undefined): string =>
    id === undefined || id === 0 || types === undefined ? 'Uint8Array' : types.of(id);

  const used = new Set(['openSkeleton', 'Skeleton', 'LoadedSkeleton']);
  const maps: string[] = [];
  const names: string[] = [];
  for (const [name, map] of spec.maps) {
    if (map.origin !== 'user') continue;
    const type = mapType(map, typeOf, used);
    maps.push(
      `  /** ${comment(map.type)}, ${counted(map.maxEntries, 'entry', 'entries')}. */\n  readonly ${propertyName(name)}: ${type};\n`,
    );
    names.push(literal(name));
  }
  const variables: string[] = [];
  for (const { name, map, size, typeId, isStatic } of object.globals) {
    // Static variables belong to their file, externs of .kconfig to the configuration.
    if (isStatic || map === '.kconfig') continue;
    const constant = map.startsWith('.rodata') ? ', constant once loaded' : '';
    const type = typeId === 0 ? 'Uint8Array' : typeOf(typeId);
    variables.push(
      `  /** ${comment(map)}${constant}; ${counted(size, 'byte', 'bytes')}. */\n  ${propertyName(name)}: ${type};\n`,
    );
  }
  const programs = [...spec.programs.values()];
  const programNames = programs.map(({ name }) => literal(name)).join(' | ');
  const list = programs
    .map(({ name, section }) => ` * - ${comment(name)}: SEC("${comment(section)}")\n`)
    .join('');
  const interfaceOf = (name: string, members: readonly string[]): string =>
    `export interface ${name} {${members.length === 0 ? '' : `\n${members.join('')}`}}\n`;

  const imports = [...used]
    .sort((a, b) => a.localeCompare(b))
    .map((name) => (name === 'openSkeleton' ? name : `type ${name}`));
  const parameters = `${title}Maps, ${title}Programs, ${title}Globals`;
  return [
    `// Generated by \`trapline bpf gen\` from ${comment(spec.name)}.o. Do not edit.\n`,
    `import { ${imports.join(', ')} } from ${literal(options.importFrom ?? 'trapline/bpf')};\n`,
    '\n',
    ...(types?.declarations ?? []).map((one) => `${one}\n`),
    interfaceOf(`${title}Maps`, maps),
    '\n',
    interfaceOf(`${title}Globals`, variables),
    '\n',
    `/**\n * The programs:\n${list} */\nexport type ${title}Programs = ${programNames === '' ? 'never' : programNames};\n\n`,
    `export type ${title} = Skeleton<${parameters}>;\n`,
    `export type Loaded${title} = LoadedSkeleton<${parameters}>;\n\n`,
    '/** Opens the object: set variables, then load(). */\n',
    `export function open${title}(): ${title} {\n`,
    `  return openSkeleton<${parameters}>(OBJECT, ${literal(spec.name)}, MAPS);\n}\n\n`,
    `const MAPS = [${names.join(', ')}] as const;\n\n`,
    `const OBJECT =\n  '${base64(options.contents)}';\n`,
  ].join('');
}
