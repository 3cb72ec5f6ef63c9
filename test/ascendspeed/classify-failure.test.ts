import { readFileSync } from 'node:fs'
import { classifyFailure, type FailureKind } from 'ascendflow'
import { describe, expect, it } from 'vitest'
import { failureKinds } from '../../src/ascendspeed/failure-kinds.ts'
import { failureRules } from '../../src/ascendspeed/failure-rules.ts'

/** Lines as they were printed (ascendspeed.md 2.11 and 3.6, modelarts.md 1.1 and 8, public reports), and their kind. */
const samples: readonly (readonly [FailureKind, string])[] = [
  [
    'device-oom',
    'RuntimeError: NPU out of memory. Tried to allocate 5.03 GiB (NPU 3; 60.96 GiB total capacity; 49.47 GiB already allocated; 1.32 GiB free)',
  ],
  [
    'device-oom',
    'EI0007: 2024-05-21-11:57:54.167.645 Failed to allocate resource[stream] with info [x]. Reason: Memory resources are exhausted.',
  ],
  ['device-oom', 'EL0004: 2024-05-21-11:57:54 Failed to allocate memory.'],
  ['device-oom', 'aclrtMalloc failed, error code is 207001'],
  ['host-oom', '[ 812.1] Out of memory: Killed process 4711 (python) total-vm:91234kB'],
  ['host-oom', 'numpy.core._exceptions.MemoryError: Unable to allocate 12.0 GiB'],
  ['host-oom', 'OSError: [Errno 12] Cannot allocate memory'],
  ['host-oom', "terminate called after throwing an instance of 'std::bad_alloc'"],
  [
    'host-oom',
    "RuntimeError: [enforce fail at alloc_cpu.cpp:75] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.",
  ],
  [
    'host-oom',
    "RuntimeError: DataLoader worker (pid 511) is killed by signal: Bus error. It is possible that dataloader's workers are out of shared memory.",
  ],
  ['disk-full', 'OSError: [Errno 28] No space left on device'],
  ['disk-full', 'OSError: [Errno 122] Disk quota exceeded'],
  ['disk-full', 'RuntimeError: [enforce fail at inline_container.cc:424] . unexpected pos 12352 vs 12246'],
  ['disk-full', 'StoreError: out: there is no space left.'],
  [
    'capacity',
    'EJ0001: 2024-05-21-11:57:54.167.645 Failed to initialize the HCCP process. Reason: Maybe the last training process is running.',
  ],
  ['capacity', 'dcmi model initialized failed, because the device is used. ret is -8020'],
  ['capacity', 'RuntimeError: The server socket has failed to bind to [::]:6060 (errno: 98 - Address already in use).'],
  ['capacity', '0/4 nodes are available: 4 Insufficient huawei.com/Ascend910.'],
  ['auth', '{"error_code":"APIGW.0301","error_msg":"Incorrect IAM authentication information"}'],
  ['auth', "PermissionError: [Errno 13] Permission denied: '/data/ckpt'"],
  [
    'device-fault',
    'RuntimeError: npuSynchronizeDevice: NPU function error: HBM MULTI BIT ECC ERROR, error code is 507054',
  ],
  ['device-fault', 'EJ0002: The network port is down.'],
  ['device-fault', 'dcmi module initialize failed. ret is -8005'],
  ['device-fault', 'NPU function error: aclrtSynchronizeStream, error code is 507015'],
  ['diverged', 'ValueError: Rank 3: found NaN in local forward loss calculation. Device: 3, node: worker-0'],
  ['config', 'pretrain_gpt.py: error: unrecognized arguments: --use-fused-rmsnrom'],
  [
    'config',
    'AssertionError: hidden_size value from checkpoint (5120) is not equal to the input argument value (4096).',
  ],
  [
    'config',
    '\tsize mismatch for word_embeddings.weight: copying a param with shape torch.Size([4000, 4096]) from checkpoint',
  ],
  [
    'config',
    'Unable to load optimizer from checkpoint /data/ckpt. Specify --no-load-optim or --finetune to prevent attempting to load the optimizer state, exiting ...',
  ],
  [
    'config',
    'AssertionError: global batch size (100) is not divisible by micro batch size (4) times data parallel size (8)',
  ],
  ['config', 'AssertionError: either train-iters or train-samples should be provided.'],
  ['config', ">> '--exit-on-missing-checkpoint' set ... exiting. <<"],
  ['config', 'EI0001: Environment variable [HCCL_CONNECT_TIMEOUT] is invalid. Reason: it should be a number.'],
  ['config', "ModuleNotFoundError: No module named 'mindspeed'"],
  ['config', "AttributeError: Token doesn't exist"],
  ['config', 'InputError: --lr is 0; it must be above 0.'],
  ['config', 'bash: torchrun: command not found'],
  ['data', 'could not load the checkpoint'],
  ['data', 'ERROR: Invalid metadata file /data/ckpt/latest_checkpointed_iteration.txt. Exiting'],
  ['data', 'RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory'],
  ['data', 'Exception: unknown local data!'],
  ['data', "FileNotFoundError: [Errno 2] No such file or directory: '/data/alpaca_text_document.idx'"],
  ['data', 'AssertionError: bad header, cannot read: /data/alpaca_text_document.idx'],
  ['device-fault', 'AclrtSynchronizeStreamWithTimeout(copy_stream), error code is 507035'],
  ['auth', '401 Client Error. (Request ID: Root=1-669f0000)'],
  ['data', 'FormatError: web.idx: expected 282 bytes, found 200.'],
  ['data', 'cat: /data/x: No such file or directory'],
  ['auth', 'sh: ./run.sh: Permission denied'],
  [
    'hccl-timeout',
    'EI0002: [PID: 2969] 2025-10-11-15:09:34.713.335 The wait execution of the Notify register times out. Reason: The Notify register has not received the Notify record from remote rank: [24].',
  ],
  [
    'hccl-timeout',
    'EI0006: [PID: 1292363] 2025-04-08-18:07:20.444.436 Getting socket times out. Reason: Remote Rank did not send the data in time.',
  ],
  ['hccl-timeout', '[W NPUStream.cpp:365] Warning: NPU warning, error code is 107020[Error]: .'],
  [
    'lost-node',
    'torch.distributed.elastic.rendezvous.api.RendezvousConnectionError: The connection to the C10d store has failed.',
  ],
  ['lost-node', 'RuntimeError: [2] is setting up HCCL: Connection reset by peer'],
  ['host-oom', '  exitcode  : -9 (pid: 4711)'],
  ['host-oom', '  traceback : Signal 9 (SIGKILL) received by PID 4711'],
  ['cancelled', 'torch.distributed.elastic.multiprocessing.api.SignalException: Process 4711 got signal: 15'],
  ['cancelled', '[exiting program after receiving SIGTERM.] datetime: 2024-07-20 11:22:33'],
  ['cancelled', 'KeyboardInterrupt'],
  ['code', '  exitcode  : -11 (pid: 4711)'],
  ['code', "TypeError: forward() got an unexpected keyword argument 'rotary'"],
  ['code', '[rank3]: ValueError: not enough values to unpack'],
  ['code', '  exitcode  : 1 (pid: 4711)'],
  ['unknown', 'EZ9999: Inner Error!'],
]

const failed = { state: 'failed', exitCode: 1 } as const
const iterated = (n: number) => ` iteration ${n}/ 100 | elapsed time per iteration (ms): 1000.0 | lm loss: 2.0E+00 |`

describe('why a job failed', () => {
  it.each(samples)('%s: %s', (kind, line) => {
    const failure = classifyFailure(['starting', line, 'more'], failed)
    expect(failure.kind).toBe(kind)
    expect(failure.evidence).toEqual({ line: line.trim(), number: 2 })
  })

  it('every rule is the one that knows some line of these', () => {
    const unused = failureRules.filter(
      rule => !samples.some(([, line]) => failureRules.find(({ pattern }) => pattern.test(line)) === rule),
    )
    expect(unused.map(({ pattern }) => String(pattern))).toEqual([])
  })

  it('the first root cause wins over what follows from it on other nodes', () => {
    const timeout = samples.find(([kind]) => kind === 'hccl-timeout')![1]
    const log = [
      iterated(7),
      timeout,
      'RuntimeError: NPU out of memory. Tried',
      timeout,
      'OSError: [Errno 28] No space left',
    ]
    expect(classifyFailure(log, failed)).toMatchObject({ kind: 'device-oom', evidence: { number: 3 } })
  })

  it('a lost node explains the timeouts on the others', () => {
    const timeout = samples.find(([kind]) => kind === 'hccl-timeout')![1]
    expect(classifyFailure([timeout], { state: 'lost' }).kind).toBe('lost-node')
    expect(classifyFailure([timeout], failed).kind).toBe('hccl-timeout')
  })

  it('the table of torchrun names a crash only where no rank said why', () => {
    const table = [
      'Traceback (most recent call last):',
      'torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ',
      'pretrain_gpt.py FAILED',
      'Root Cause (first observed failure):',
      '  exitcode  : -9 (pid: 4711)',
    ]
    expect(classifyFailure(table, failed)).toMatchObject({ kind: 'host-oom', retry: 'later' })
    expect(classifyFailure(['RuntimeError: NPU out of memory. Tried', ...table], failed).kind).toBe('device-oom')
  })

  it('an error after which two iterations were done was survived', () => {
    const log = ['OSError: [Errno 28] No space left on device', iterated(1), iterated(2), 'ValueError: bad']
    expect(classifyFailure(log, failed)).toMatchObject({ kind: 'code', evidence: { number: 4 } })
    expect(classifyFailure(log.toSpliced(1, 1), failed).kind).toBe('disk-full')
  })

  it.each([
    [{ state: 'cancelled' }, 'cancelled'],
    [{ state: 'lost' }, 'lost-node'],
    [{ state: 'unproved' }, 'unknown'],
    [{ state: 'failed', exitCode: 137 }, 'host-oom'],
    [{ state: 'failed', reason: 'killed by SIGKILL' }, 'host-oom'],
    [{ state: 'failed', exitCode: 143 }, 'cancelled'],
    [{ state: 'failed', exitCode: 127 }, 'config'],
    [{ state: 'failed', reason: 'killed by SIGSEGV' }, 'code'],
    [{ state: 'failed', exitCode: 1 }, 'unknown'],
  ] as const)('an end without a word, %o, is %s', (end, kind) => {
    const failure = classifyFailure(['all is well'], end)
    expect([failure.kind, failure.evidence]).toEqual([kind, undefined])
  })

  it('the page about errors says the same of every kind', () => {
    const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
    const rows = [...page.matchAll(/^\| `([\w-]+)` +\| (.+?) +\| (now|later|elsewhere|never) +\|$/gm)]
    expect(rows.map(([, kind, cause, retry]) => [kind, cause, retry])).toEqual(
      Object.entries(failureKinds).map(([kind, { cause, retry }]) => [kind, cause, retry]),
    )
  })
})
