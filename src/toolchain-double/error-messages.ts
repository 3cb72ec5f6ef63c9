import { pythonTime } from './python-time.ts'

/** What an error message speaks of. */
export interface ErrorPlace {
  readonly pid: number
  readonly rank: number
  readonly localRank: number
  readonly host: string
}

/**
 * What the last lines of a traceback say.
 *
 * Source: reports of users of torch_npu 2.1 on CANN 8.0, github.com/hiyouga/LlamaFactory/issues/{3839,5071},
 * github.com/Ascend/pytorch/issues/{43,66}, github.com/vllm-project/vllm-ascend/issues/{19,486,1443,7676},
 * github.com/LinZhekai/X-Oscar/issues/4; the error codes also in the CANN 8.0 troubleshooting guide. ModelLink 1.1,
 * pretrain_gpt.py:154 (NaN); torch 2.1, inline_container.cc (saving), as in LlamaFactory/issues/1223; transformers,
 * utils/hub.py (auth).
 */
export const errorMessages = {
  'import-error': (place: ErrorPlace) =>
    [
      "ImportError: libhccl.so: cannot open shared object file: No such file or directory. Please check that the cann package is installed. Please run 'source set_env.sh' in the CANN installation path.",
      `[ERROR] ${pythonTime('-')} (PID:${place.pid}, Device:-1, RankID:-1) ERR00008 PTA resource not found`,
    ].join('\n'),

  auth: () =>
    [
      'OSError: You are trying to access a gated repo.',
      'Make sure to have access to it at https://huggingface.co/meta-llama/Llama-2-7b-hf.',
      '401 Client Error. (Request ID: Root=1-669f0000-000000000000000000000000)',
      'Cannot access gated repo for url https://huggingface.co/meta-llama/Llama-2-7b-hf/resolve/main/config.json.',
      'Access to model meta-llama/Llama-2-7b-hf is restricted. You must be authenticated to access it.',
    ].join('\n'),

  'device-oom': ({ localRank }: ErrorPlace) =>
    `RuntimeError: NPU out of memory. Tried to allocate 2.53 GiB (NPU ${localRank}; 60.97 GiB total capacity; 57.12 GiB already allocated; 57.12 GiB current active; 1.32 GiB free; 57.55 GiB reserved in total by PyTorch) If reserved memory is >> allocated memory try setting max_split_size_mb to avoid fragmentation.`,

  'device-busy': (place: ErrorPlace) =>
    [
      'RuntimeError: [ERROR] HCCL error in: torch_npu/csrc/distributed/ProcessGroupHCCL.cpp:64',
      torchNpuError(place, 'ERR02200 DIST call hccl api failed.'),
      `EJ0001: ${pythonTime('-', 'ms')} Failed to initialize the HCCP process. Reason: Maybe the last training process is running.`,
      '        Solution: Wait for 10s after killing the last training process and try again.',
      '        TraceBack (most recent call last):',
      '        tsd client wait response fail, device response code[1]. unknown device error.[FUNC:WaitRsp][FILE:process_mode_manager.cpp][LINE:290]',
    ].join('\n'),

  'hccl-connect-timeout': (place: ErrorPlace) =>
    [
      'RuntimeError: [ERROR] HCCL error in: torch_npu/csrc/distributed/ProcessGroupHCCL.cpp:64',
      torchNpuError(place, 'ERR02200 DIST call hccl api failed.'),
      `EI0006: ${pythonTime('-', 'ms')} Getting socket times out. Reason: Remote Rank did not send the data in time. Please check the reason for the rank being stuck`,
      '        Solution: 1. Check the rank service processes with other errors or no errors in the cluster.2. If this error is reported for all NPUs, check whether the time difference between the earliest and latest errors is greater than the connect timeout interval (120s by default). If so, adjust the timeout interval by using the HCCL_CONNECT_TIMEOUT environment variable.3. Check the connectivity of the communication link between nodes.',
    ].join('\n'),

  'hccl-exec-timeout': (place: ErrorPlace) =>
    [
      'RuntimeError: npuSynchronizeDevice:torch_npu/csrc/core/npu/NPUStream.cpp:370 NPU error, error code is 107020',
      torchNpuError(place, 'ERR00100 PTA call acl api failed.'),
      `EI0002: ${pythonTime('-', 'ms')} The wait execution of the Notify register times out. Reason: The Notify register has not received the Notify record from remote rank [unknown]. base information: [streamID:[1], taskID[39], taskType[Notify Wait], tag[AllReduce_group_name_0]].`,
      '        Possible Cause: 1. An exception occurs during the execution on some NPUs in the cluster. As a result, collective communication operation failed.2. The execution speed on some NPU in the cluster is too slow to complete a communication operation within the timeout interval. (default 1800s, You can set the interval by using HCCL_EXEC_TIMEOUT.)3. The number of training samples of each NPU is inconsistent.4. Packet loss or other connectivity problems occur on the communication link.',
    ].join('\n'),

  'device-fault': (place: ErrorPlace) =>
    [
      'RuntimeError: operator():build/CMakeFiles/torch_npu.dir/compiler_depend.ts:25 NPU function error: c10_npu::acl::AclrtSynchronizeStreamWithTimeout(copy_stream), error code is 507035',
      torchNpuError(place, 'ERR00100 PTA call acl api failed'),
      '[Error]: The vector core execution is abnormal.',
      '        Rectify the fault based on the error information in the ascend log.',
      'EZ9999: Inner Error!',
      `EZ9999: ${pythonTime('-', 'ms')} The error from device(chipId:${place.localRank}, dieId:0), serial number is 3, there is an aivec error exception, core id is 0, error code = 0x800000.[FUNC:ProcessStarsCoreErrorInfo][FILE:device_error_proc.cc]`,
    ].join('\n'),

  'nan-loss': ({ rank, localRank, host }: ErrorPlace) =>
    `ValueError: Rank ${rank}: found NaN in local forward loss calculation. Device: ${localRank}, node: ${host}`,

  'disk-full': () =>
    'RuntimeError: [enforce fail at inline_container.cc:445] . PytorchStreamWriter failed writing file data/3: file write failed',
} as const satisfies Record<string, (place: ErrorPlace) => string>

/** What torch's reader says of a zip file that was cut off. */
export const truncatedZip = 'PytorchStreamReader failed reading zip archive: failed finding central directory'

function torchNpuError({ pid, rank, localRank }: ErrorPlace, message: string): string {
  return `[ERROR] ${pythonTime('-')} (PID:${pid}, Device:${localRank}, RankID:${rank}) ${message}`
}
