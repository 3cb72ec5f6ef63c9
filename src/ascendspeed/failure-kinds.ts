import type { FailureKind, FailureRetry } from '../job-failure.ts'

/** What is said of every failure of one kind, where the rule that found it says nothing else. */
export interface KindOfFailure {
  readonly cause: string
  readonly advice: string
  readonly retry: FailureRetry
}

/** The kinds of failure in words. docs/errors.md has the same table, and a test compares them. */
export const failureKinds: Readonly<Record<FailureKind, KindOfFailure>> = {
  'device-oom': {
    cause: 'an NPU ran out of memory',
    advice:
      'Use a smaller microBatchSize, a larger tp or pp, or recomputation; end processes that earlier jobs left on the devices (npu-smi info shows them).',
    retry: 'never',
  },
  'host-oom': {
    cause: 'a node ran out of memory',
    advice:
      'Give the job more memory (a container: its limit and its shm size), or use fewer workers and nodes with more.',
    retry: 'never',
  },
  'hccl-timeout': {
    cause: 'devices waited for each other in vain',
    advice:
      'If it comes again: look for the rank that did not answer, check the links (hccn_tool) and HCCL_SOCKET_IFNAME, and raise HCCL_CONNECT_TIMEOUT where nodes start far apart.',
    retry: 'later',
  },
  'device-fault': {
    cause: 'a device or its driver failed',
    advice: 'Look at npu-smi info on that node; leave the node out and have it repaired.',
    retry: 'elsewhere',
  },
  'lost-node': {
    cause: 'a node or its processes are gone',
    advice: 'Check that the node is up and reachable; leave it out if it goes again.',
    retry: 'elsewhere',
  },
  'disk-full': {
    cause: 'there was no room to write',
    advice: 'Make room on the disk that the path is on, or save less often; what was written before is kept.',
    retry: 'never',
  },
  data: {
    cause: 'a file that was to be read is missing or damaged',
    advice: 'Check the path as that node sees it, and the file: diagnose() does for checkpoints. Then make it anew.',
    retry: 'never',
  },
  config: {
    cause: 'the arguments or the environment of the job are wrong',
    advice: 'Correct what the line names.',
    retry: 'never',
  },
  code: {
    cause: 'the program failed',
    advice: 'Read the lines before this one in the log.',
    retry: 'never',
  },
  capacity: {
    cause: 'what the job needs is taken',
    advice: 'Wait until it is free, or ask for less.',
    retry: 'later',
  },
  auth: {
    cause: 'access was refused',
    advice: 'Check the credentials and permissions that the job runs with.',
    retry: 'never',
  },
  cancelled: {
    cause: 'the job was stopped from outside',
    advice: 'Run the same graph again to go on.',
    retry: 'never',
  },
  hang: {
    cause: 'the job made no progress',
    advice: 'If it comes again: look for the rank that stands still (py-spy dump), and check storage and links.',
    retry: 'now',
  },
  diverged: {
    cause: 'the training is no longer learning',
    advice:
      'Use a lower learning rate, a longer warm-up or clipGrad, or other data after the newest checkpoint that is sound; the watch policy of train says when this is found.',
    retry: 'never',
  },
  unknown: {
    cause: 'nothing in its output says why',
    advice: 'Read the whole log.',
    retry: 'never',
  },
}
