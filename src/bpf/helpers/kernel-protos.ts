/**
 * Prototypes of helpers by number, as Linux 6.12 declares them (`struct bpf_func_proto`: kernel/bpf/helpers.c, kernel/trace/bpf_trace.c,
 * net/core/filter.c). The verifier checks calls by them whether or not the engine has an implementation.
 *
 * `number result arguments flags`. Flags: gpl, pkt (may get packet data), moves (changes packet data), sleeps, size=N (fixed
 * memory), struct=A,B (of the arguments), ret=S, dynptr=KIND, bounded.
 */
import { HELPER_NAMES } from './names.ts';
import type { ArgType, HelperProto, RetType, WasmType } from './proto.ts';

const TABLE = `
1 map_value_or_null const_map_ptr,map_key pkt
2 integer const_map_ptr,map_key,map_value,anything pkt
3 integer const_map_ptr,map_key pkt
4 integer uninit_mem,const_size_or_zero,anything gpl
5 integer
6 integer mem,const_size gpl
7 integer
8 integer
9 integer ctx,anything,mem,const_size,anything moves
10 integer ctx,anything,anything,anything,anything moves
11 integer ctx,anything,anything,anything,anything moves
12 void ctx,const_map_ptr,anything
13 integer ctx,anything,anything moves
14 integer
15 integer
16 integer uninit_mem,const_size
17 integer ctx
18 integer ctx,anything,anything moves
19 integer ctx moves
20 integer ctx,uninit_mem,const_size,anything
21 integer ctx,mem,const_size,anything
22 integer const_map_ptr,anything gpl
23 integer anything,anything
24 integer ctx
25 integer ctx,const_map_ptr,anything,mem,const_size_or_zero gpl
26 integer ctx,anything,uninit_mem,const_size
27 integer ctx,const_map_ptr,anything gpl
28 integer mem_or_null,const_size_or_zero,mem_or_null,const_size_or_zero,anything pkt
29 integer ctx,uninit_mem,const_size
30 integer ctx,mem,const_size
31 integer ctx,anything,anything moves
32 integer ctx,anything
33 integer ctx,const_map_ptr,anything
34 integer ctx
35 integer gpl
36 integer anything,mem,const_size gpl
37 integer const_map_ptr,anything
38 integer ctx,anything,anything moves
39 integer ctx,anything moves
40 integer ctx,anything
41 integer ctx
42 integer
43 integer ctx,anything,anything moves
44 integer ctx,anything moves
45 integer uninit_mem,const_size_or_zero,anything gpl bounded
46 integer ctx
47 integer ctx
48 integer ctx,anything
49 integer ctx,anything,anything,mem,const_size
50 integer ctx,anything,anything,anything moves
51 integer const_map_ptr,anything,anything
52 integer ctx,const_map_ptr,anything,anything
53 integer ctx,const_map_ptr,map_key,anything pkt
54 integer ctx,anything moves
55 integer const_map_ptr,anything,uninit_mem,const_size gpl
56 integer ctx,uninit_mem,const_size gpl
57 integer ctx,anything,anything,uninit_mem,const_size
58 integer ctx,anything gpl
59 integer ctx,anything
60 integer ctx,const_map_ptr,anything,anything
61 integer ctx,anything
62 integer ctx,anything
63 integer ctx,anything,anything,anything moves
64 integer ctx,mem,const_size
65 integer ctx,anything moves
66 integer ctx,anything,uninit_mem,const_size,anything
67 integer ctx,uninit_mem,const_size_or_zero,anything gpl bounded
68 integer ctx,anything,uninit_mem,const_size,anything
69 integer ctx,mem_rw,const_size,anything gpl
70 integer ctx,const_map_ptr,map_key,anything pkt
71 integer ctx,const_map_ptr,map_key,anything
72 integer ctx,const_map_ptr,map_key,anything
73 integer ctx,anything,mem,const_size moves
74 integer ctx,anything,mem,const_size moves
75 integer ctx,anything,anything moves
76 integer ctx,anything,mem,const_size moves
77 integer ctx
78 integer ctx,anything,anything,anything
79 integer ctx
80 integer
81 map_value const_map_ptr,anything
82 integer ctx,const_map_ptr,map_key,anything
83 integer ctx,anything
84 socket_or_null ctx,mem,const_size,anything,anything pkt
85 socket_or_null ctx,mem,const_size,anything,anything pkt
86 integer btf_id_sock_common_release
87 integer const_map_ptr,map_value,anything pkt
88 integer const_map_ptr,uninit_map_value
89 integer const_map_ptr,uninit_map_value
90 integer ctx,anything,anything,anything moves
91 integer ctx,anything,anything,anything moves
92 integer ctx,anything
93 void ptr_to_spin_lock
94 void ptr_to_spin_lock
95 socket_or_null ptr_to_sock_common
96 tcp_sock_or_null ptr_to_sock_common
97 integer ctx
98 socket_or_null ptr_to_sock_common
99 sock_common_or_null ctx,mem,const_size,anything,anything pkt
100 integer btf_id_sock_common,mem,const_size,mem,const_size pkt
101 integer ctx,uninit_mem,const_size,anything
102 integer ctx,uninit_mem,const_size
103 integer ctx,uninit_mem,const_size
104 integer ctx,mem,const_size
105 integer mem,const_size,anything,uninit_mem_fixed size=8
106 integer mem,const_size,anything,uninit_mem_fixed size=8
107 map_value_or_null const_map_ptr,btf_id_sock_common,map_value_or_null,anything
108 integer const_map_ptr,btf_id_sock_common
109 integer anything
110 integer btf_id_sock_common,mem,const_size,mem,const_size pkt gpl
111 integer ptr_to_btf_id,const_map_ptr,anything,mem,const_size_or_zero gpl struct=sk_buff
112 integer uninit_mem,const_size_or_zero,anything gpl
113 integer uninit_mem,const_size_or_zero,anything gpl
114 integer uninit_mem,const_size_or_zero,anything gpl bounded
115 integer uninit_mem,const_size_or_zero,anything gpl bounded
116 integer anything,anything gpl
117 integer anything
118 integer
119 integer ctx,mem_or_null,const_size_or_zero,anything gpl
120 integer anything,anything,uninit_mem,const_size
121 integer ptr_to_btf_id,const_map_ptr,anything,mem,const_size_or_zero gpl struct=xdp_buff
122 integer ctx_or_null
123 integer anything
124 integer ctx,btf_id_sock_common,anything
125 integer
126 integer ptr_to_btf_id,mem,const_size,mem_or_null,const_size_or_zero gpl struct=seq_file
127 integer ptr_to_btf_id,mem,const_size_or_zero gpl struct=seq_file
128 integer btf_id_sock_common
129 integer btf_id_sock_common,anything
130 integer const_map_ptr,mem,const_size_or_zero,anything
131 ringbuf_mem_or_null const_map_ptr,const_alloc_size_or_zero,anything
132 void ringbuf_mem_release,anything
133 void ringbuf_mem_release,anything
134 integer const_map_ptr,anything
135 integer ctx,anything
136 btf_id_or_null btf_id_sock_common ret=tcp6_sock
137 btf_id_or_null btf_id_sock_common ret=tcp_sock
138 btf_id_or_null btf_id_sock_common ret=tcp_timewait_sock
139 btf_id_or_null btf_id_sock_common ret=tcp_request_sock
140 btf_id_or_null btf_id_sock_common ret=udp6_sock
141 integer ptr_to_btf_id,uninit_mem,const_size_or_zero,anything gpl struct=task_struct bounded
142 integer ctx,mem_rw,const_size,anything
143 integer ctx,mem,const_size,anything moves
144 integer ctx,anything,anything
145 map_value_or_null const_map_ptr,ptr_to_btf_id_or_null,map_value_or_null,anything struct=inode
146 integer const_map_ptr,ptr_to_btf_id_or_null struct=inode
147 integer ptr_to_btf_id,uninit_mem,const_size_or_zero struct=path
148 integer uninit_mem,const_size_or_zero,anything sleeps
149 integer uninit_mem,const_size,mem,const_size,anything
150 integer ptr_to_btf_id,mem,const_size_or_zero,anything gpl struct=seq_file
151 integer ctx
152 integer anything,mem_or_null,const_size_or_zero,anything
153 mem_or_btf_id_or_null ptr_to_percpu_btf_id,anything
154 mem_or_btf_id ptr_to_percpu_btf_id
155 integer anything,anything
156 map_value_or_null const_map_ptr,ptr_to_btf_id_or_null,map_value_or_null,anything struct=task_struct
157 integer const_map_ptr,ptr_to_btf_id_or_null struct=task_struct
158 btf_id_trusted ret=task_struct
159 integer ptr_to_btf_id,anything struct=linux_binprm
160 integer
161 integer ptr_to_btf_id,uninit_mem,const_size struct=inode sleeps
162 btf_id_or_null ptr_to_btf_id struct=file ret=socket
163 integer ctx,anything,uninit_mem_fixed,anything,anything size=4
164 integer const_map_ptr,func,stack_or_null,anything
165 integer uninit_mem,const_size_or_zero,const_str,mem_or_null,const_size_or_zero
166 integer anything,mem_rw,const_size sleeps
167 integer mem,const_size,anything,anything sleeps
168 integer anything sleeps
169 integer ptr_to_timer,const_map_ptr,anything gpl
170 integer ptr_to_timer,func gpl
171 integer ptr_to_timer,anything,anything gpl
172 integer ptr_to_timer gpl
173 integer ctx gpl
174 integer ctx
175 btf_id ptr_to_btf_id gpl struct=task_struct ret=pt_regs
176 integer uninit_mem,const_size_or_zero,anything gpl
177 integer mem,const_size,mem_or_null,const_size_or_zero gpl
178 btf_id_or_null btf_id_sock_common ret=unix_sock
179 integer mem,const_size,anything,uninit_mem_fixed size=8
180 integer ptr_to_btf_id,anything,func,stack_or_null,anything struct=task_struct
181 integer scalar,func,stack_or_null,anything
182 integer mem,const_size,const_str
183 integer ctx,anything,uninit_mem_fixed size=8
184 integer ctx,uninit_mem_fixed size=8
185 integer ctx
186 integer
187 integer anything
188 integer ctx
189 integer ctx,anything,uninit_mem,const_size
190 integer ctx,anything,mem,const_size
191 integer uninit_mem,const_size_or_zero,anything,ptr_to_btf_id,anything gpl sleeps struct=task_struct
192 integer ctx,anything,anything
193 integer ptr_to_btf_id,uninit_mem,const_size struct=file sleeps
194 btf_id_or_null kptr_xchg_dest,btf_id_or_null_release
195 map_value_or_null const_map_ptr,map_key,anything pkt
196 btf_id_or_null ptr_to_sock_common ret=mptcp_sock
197 integer mem_rw,const_size_or_zero,anything,ptr_to_dynptr_uninit dynptr=local
198 integer const_map_ptr,anything,anything,ptr_to_dynptr_uninit dynptr=ringbuf
199 void ptr_to_dynptr_release,anything
200 void ptr_to_dynptr_release,anything
201 integer uninit_mem,const_size_or_zero,ptr_to_dynptr_rdonly,anything,anything
202 integer ptr_to_dynptr_rdonly,anything,mem,const_size_or_zero,anything
203 dynptr_mem_or_null ptr_to_dynptr_rdonly,anything,const_alloc_size_or_zero
204 integer mem_fixed,mem,const_size pkt size=20
205 integer mem_fixed,mem,const_size pkt size=40
206 integer mem_fixed,mem_fixed pkt size=20
207 integer mem_fixed,mem_fixed pkt size=40
208 integer
209 integer const_map_ptr,func,stack_or_null,anything
210 map_value_or_null const_map_ptr,ptr_to_btf_id_or_null,map_value_or_null,anything struct=cgroup
211 integer const_map_ptr,ptr_to_btf_id_or_null struct=cgroup`;

const SCALARS: ReadonlySet<ArgType> = new Set<ArgType>(['anything']);

/** Wasm types follow from the declaration: scalars are i64, pointers, maps and sizes i32; a pointer result is i32. */
export function wasmOf(args: readonly ArgType[], ret: RetType): HelperProto['wasm'] {
  const params: WasmType[] = args.map((arg) => (SCALARS.has(arg) ? 'i64' : 'i32'));
  return { params, result: ret === 'void' ? undefined : ret === 'integer' ? 'i64' : 'i32' };
}

function parse(line: string): HelperProto {
  const [number, ret, ...rest] = line.split(' ');
  const id = Number(number);
  const hasArgs = rest[0] !== undefined && !/^(gpl|pkt|moves|sleeps|bounded)$|=/.test(rest[0]);
  const args = hasArgs ? (rest.shift()!.split(',') as ArgType[]) : [];
  const has = (flag: string): boolean => rest.includes(flag);
  const value = (key: string): string | undefined =>
    rest.find((one) => one.startsWith(`${key}=`))?.slice(key.length + 1);
  const size = value('size');
  const structs = value('struct');
  const retStruct = value('ret');
  const dynptr = value('dynptr') as 'local' | 'ringbuf' | undefined;
  return {
    id,
    name: HELPER_NAMES[id]!,
    args,
    ret: ret as RetType,
    ...(size === undefined ? {} : { fixedSize: Number(size) }),
    ...(structs === undefined ? {} : { structs: structs.split(',') }),
    ...(retStruct === undefined ? {} : { retStruct }),
    ...(dynptr === undefined ? {} : { dynptr }),
    ...(has('gpl') ? { gplOnly: true } : {}),
    ...(has('pkt') ? { pktAccess: true } : {}),
    ...(has('moves') ? { changesPacket: true } : {}),
    ...(has('sleeps') ? { maySleep: true } : {}),
    ...(has('bounded') ? { boundedBySize: true } : {}),
    wasm: wasmOf(args, ret as RetType),
  };
}

let table: (HelperProto | undefined)[] | undefined;

/** Tracing programs give kernel sockets where others give their own. */
const TRACING_TABLE = `
46 integer ptr_to_btf_id_or_null struct=sock_common
107 map_value_or_null const_map_ptr,ptr_to_btf_id_or_null,map_value_or_null,anything struct=sock_common
108 integer const_map_ptr,ptr_to_btf_id_or_null struct=sock_common`;

/** Programs that have sockets apart from their context: options of any of them. */
const SOCKET_OPTIONS_TABLE = `
49 integer btf_id_sock_common,anything,anything,mem,const_size
57 integer btf_id_sock_common,anything,anything,uninit_mem,const_size`;

const REUSEPORT_TABLE = `
46 integer btf_id_sock_common_or_null`;

/** The context itself is the socket. */
const CGROUP_SOCK_TABLE = `
107 map_value_or_null const_map_ptr,ctx,map_value_or_null,anything`;

const SK_LOOKUP_TABLE = '124 integer ctx,ptr_to_socket_or_null,anything';

/** What differs, and for which program types. */
const VARIANTS: readonly (readonly [table: string, types: readonly string[]])[] = [
  [TRACING_TABLE, ['tracing', 'lsm', 'struct_ops', 'syscall']],
  [SOCKET_OPTIONS_TABLE, ['tracing', 'lsm', 'struct_ops', 'cgroup_sockopt']],
  [REUSEPORT_TABLE, ['sk_reuseport']],
  [CGROUP_SOCK_TABLE, ['cgroup_sock']],
  [SK_LOOKUP_TABLE, ['sk_lookup']],
];

/** By program type and number. */
let variants: Map<string, Map<number, HelperProto>> | undefined;

function readVariants(): Map<string, Map<number, HelperProto>> {
  const read = new Map<string, Map<number, HelperProto>>();
  for (const [table, types] of VARIANTS) {
    const protos = table.trim().split('\n').map(parse);
    for (const type of types) {
      const ofType = read.get(type) ?? new Map<number, HelperProto>();
      for (const proto of protos) ofType.set(proto.id, proto);
      read.set(type, ofType);
    }
  }
  return read;
}

/** The prototype for one program type, where it differs. */
export function protoFor(id: number, progType: string): HelperProto | undefined {
  variants ??= readVariants();
  return variants.get(progType)?.get(id) ?? kernelProto(id);
}

/** The kernel's prototype of a helper; undefined where there is no such number. */
export function kernelProto(id: number): HelperProto | undefined {
  if (table === undefined) {
    table = [];
    for (const line of TABLE.trim().split('\n')) {
      const proto = parse(line.trim());
      table[proto.id] = proto;
    }
  }
  return table[id];
}
