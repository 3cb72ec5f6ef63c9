import type { FailureKind } from '../job-failure.ts'
import type { KindOfFailure } from './failure-kinds.ts'

/**
 * How much a line says: a root cause; what follows from one elsewhere (a timeout, a broken connection); any exception;
 * a summary. Of several lines the first of the strongest strength is believed.
 */
export type Strength = 1 | 2 | 3 | 4

/** A line of output that tells a kind of failure, with words of its own where the kind's are too general. */
export interface FailureRule extends Partial<KindOfFailure> {
  readonly kind: FailureKind
  readonly strength: Strength
  readonly pattern: RegExp
  /** Where the wording is from. */
  readonly source: string
}

const hccl = 'CANN hcomm, error_info_list (EI and EJ codes)'
const runtime = 'CANN acl/error_codes/rt_error_codes.h'
const megatron = 'Megatron-LM core_r0.6.0'
const linux = 'errno(3), Linux'
const python = 'Python 3, built-in exceptions'
const elastic = 'PyTorch 2.1, torch/distributed/elastic'

/** Nobody asked this library for it: a scheduler that takes a node away, say. */
export const told = { cause: 'it was told to stop (SIGTERM), as when its node is taken away', retry: 'now' } as const

const rule = (
  kind: FailureKind,
  strength: Strength,
  pattern: RegExp,
  source: string,
  words: Partial<KindOfFailure> = {},
): FailureRule => ({ kind, strength, pattern, source, ...words })

/** The rules, each line by the first that knows it. */
export const failureRules: readonly FailureRule[] = [
  rule('device-oom', 1, /\b(NPU|CUDA) out of memory\b/, 'torch_npu, NPUCachingAllocator; public issue reports'),
  rule('device-oom', 1, /\bEI00(07|11)\b/, hccl),
  rule('device-oom', 1, /\bEL0004\b/, 'CANN driver, memory allocation; public issue reports'),
  rule('device-oom', 1, /error code is (207001|207018)\b/, runtime),

  rule(
    'host-oom',
    1,
    /Out of memory: Kill|oom-kill|OOMKilled|Cannot allocate memory|(^|[\s.])MemoryError\b|std::bad_alloc/,
    `${linux}, mm/oom_kill.c; Kubernetes; ${python}`,
  ),
  rule(
    'host-oom',
    1,
    /DefaultCPUAllocator: can't allocate memory|DataLoader worker .*killed by signal: Killed/,
    'PyTorch',
  ),
  rule('host-oom', 1, /insufficient shared memory \(shm\)|killed by signal: Bus error/, 'PyTorch, DataLoader', {
    cause: 'a container ran out of shared memory',
    advice: 'Give it more (docker: --shm-size), or use fewer data loader workers.',
  }),

  rule('disk-full', 1, /No space left on device|Disk quota exceeded|\bENOSPC\b|\bEDQUOT\b/, linux),
  rule('disk-full', 1, /PytorchStreamWriter failed writing|unexpected pos \d+ vs \d+/, 'PyTorch, inline_container.cc'),
  rule('disk-full', 1, /^StoreError: /, 'the embedded trainer'),

  rule('capacity', 1, /\bEJ0001\b|the device is used\. ret is -8020/, `${hccl}; dcmi`, {
    cause: 'another process holds the devices',
    advice: 'End what an earlier job left there; npu-smi info shows it.',
  }),
  rule('capacity', 1, /Address already in use|\bEADDRINUSE\b|\bEJ0003\b/, `${linux}; ${hccl}`, {
    cause: 'a port is taken',
    advice: 'End what an earlier job left on that node, or choose another port.',
  }),
  rule(
    'capacity',
    1,
    /\bUnschedulable\b|Insufficient huawei\.com\/|\b(APIG|APIGW)\.0308\b|quota (is )?exceeded/i,
    'Kubernetes; ModelArts',
  ),
  rule(
    'auth',
    1,
    /\b(APIG|APIGW)\.0301\b|\bModelArts\.2785\b|401 (Unauthorized|Client Error)|403 (Forbidden|Client Error)/,
    'ModelArts; Hugging Face hub',
  ),
  rule(
    'auth',
    1,
    /\bPermissionError\b|Permission denied \(|Authentication failed|pull access denied/,
    `${python}; OpenSSH; docker`,
  ),

  rule(
    'device-fault',
    1,
    /error code is (507010|50705[3-6])\b|\bUCE ERROR\b|HBM MULTI BIT ECC|\bECC ERROR\b/i,
    runtime,
  ),
  rule(
    'device-fault',
    1,
    /\bEJ0002\b|\bEI0010\b|dcmi module initialize failed|drvRet=|drv(Error|Device)\w* failed/,
    `${hccl}; dcmi`,
  ),
  rule(
    'device-fault',
    1,
    /error code is (507014|507015|507018|507034|507035)\b|\b(aicore|aivec|aicpu)( error)? exception/i,
    runtime,
    {
      cause: 'an AI core stopped with an exception',
      advice:
        'If other nodes do the same, it is the operator, not the device: set ASCEND_LAUNCH_BLOCKING=1 to see which.',
    },
  ),

  rule('diverged', 1, /found NaN in local (forward loss|grad)/, 'ModelLink 43fb3461, pretrain_gpt.py:152', {
    cause: 'the loss became NaN',
  }),

  rule(
    'config',
    1,
    /: error: (unrecognized arguments|the following arguments are required|argument |ambiguous option|no such option)/,
    'Python, argparse',
    {
      cause: 'the program refused its arguments',
    },
  ),
  rule(
    'config',
    1,
    /value from checkpoint \(.*\) is not equal to the input argument value/,
    `${megatron}, checkpointing.py:51`,
    {
      cause: 'the checkpoint was made with other arguments',
    },
  ),
  rule(
    'config',
    1,
    /size mismatch for |Error\(s\) in loading state_dict|Missing key\(s\) in state_dict/,
    'PyTorch, Module.load_state_dict',
    {
      cause: 'the checkpoint is of another model or layout',
    },
  ),
  rule(
    'config',
    1,
    /Unable to load (optimizer|learning rate scheduler) from checkpoint/,
    `${megatron}, checkpointing.py:754; exits with 0`,
    {
      cause: 'the checkpoint has no state of the optimizer',
      advice: 'Start from it with finetune, or without loading the optimizer.',
    },
  ),
  rule(
    'config',
    1,
    /is not divisible by|must be divisible by|either train-iters or train-samples/,
    `${megatron}, arguments.py, microbatches.py`,
  ),
  rule('config', 1, /exit-on-missing-checkpoint/, `${megatron}, checkpointing.py`, {
    cause: 'there is no checkpoint to load',
  }),
  rule('config', 1, /\bEI00(01|03|04|05|08|14|16|17)\b|\bEJ0004\b/, hccl),
  rule('config', 1, /\b(ModuleNotFoundError|ImportError)\b/, python, {
    cause: "a package of the toolchain's environment is missing",
    advice: 'Install it on every node, or start the job in the environment that has it.',
  }),
  rule('config', 1, /Token doesn't exist/, 'ModelLink, tokenizer.py:166', {
    cause: 'the tokenizer has no end-of-text token',
  }),
  rule('config', 1, /^(InputError|LayoutError|UnsupportedError): /, 'the embedded trainer'),

  rule(
    'data',
    1,
    /could not load the checkpoint|Invalid metadata file/,
    `${megatron}, checkpointing.py:205,525; both exit with 0`,
    {
      cause: 'the checkpoint cannot be read',
    },
  ),
  rule(
    'data',
    1,
    /PytorchStreamReader failed|failed finding central directory|invalid load key|UnpicklingError|EOFError: Ran out of input/,
    'PyTorch, torch.load',
    {
      cause: 'a checkpoint file is damaged',
    },
  ),
  rule(
    'data',
    1,
    /unknown local data!|DatasetGenerationError|JSONDecodeError|ArrowInvalid|SafetensorError/,
    'ModelLink, data_handler.py:426; datasets; safetensors',
  ),
  rule(
    'data',
    1,
    /\bFileNotFoundError\b|\.(idx|bin|jsonl?|parquet|arrow)\b.*(does not exist|not found)|Index file doesn't match|bad header, cannot read/,
    `${python}; ${megatron}, indexed_dataset.py`,
  ),
  rule('data', 1, /^FormatError: /, 'the embedded trainer'),

  rule('hccl-timeout', 2, /\bEI00(02|06|09|12|13|15)\b|\bEE1002\b/, hccl),
  rule(
    'hccl-timeout',
    2,
    /error code is (107019|107020|507046|507048|507057|507904)\b|Watchdog caught collective operation timeout|FORCE STOP/,
    `${runtime}; torch_npu, ProcessGroupHCCL`,
  ),
  rule(
    'lost-node',
    2,
    /\bNodeLost\b|Rendezvous(Connection|Timeout|Closed)Error|recvValue failed|Socket Timeout|Connection (reset|closed) by peer|Broken pipe|Connection refused/,
    `${elastic}, rendezvous; Kubernetes; ${linux}`,
  ),
  rule('host-oom', 2, /exitcode\s*: -9\b|Signal 9 \(SIGKILL\)/, `${elastic}, multiprocessing/errors`, {
    cause: 'a process was killed, as the system does when memory runs out',
    retry: 'later',
  }),
  rule('cancelled', 2, /^KeyboardInterrupt|got signal: 2\b/, `${python}; ${elastic}`),
  rule('cancelled', 2, /got signal: 15\b|exitcode\s*: -15\b|exiting program after receiving SIGTERM/, elastic, told),

  rule('config', 3, /command not found\b|: not found$/, 'POSIX shells', { cause: 'a program is missing' }),
  rule('data', 3, /No such file or directory/, linux),
  rule('auth', 3, /Permission denied/, linux),
  rule('code', 3, /exitcode\s*: -(4|6|7|8|11)\b|Segmentation fault|\bcore dumped\b/, elastic, {
    cause: 'the program crashed',
  }),
  rule('code', 3, /^(\S*\]:?\s*)*([A-Za-z_][\w.]*(Error|Exception))(:|\s*$)/, python),
  rule('unknown', 4, /\bE[A-Z]9999\b/, 'CANN, inner errors', { cause: 'CANN reports an inner error' }),
  rule('code', 4, /exitcode\s*: [1-9]|ChildFailedError/, `${elastic}, multiprocessing/errors`),
]
