export type { DiagnoseOptions, Diagnosis, Repair } from './checkpoint/diagnose.ts'
export { diagnose, repair } from './checkpoint/diagnose.ts'
export type { Difference, Extent } from './checkpoint/difference.ts'
export type { Finding } from './checkpoint/finding.ts'
export { inspect } from './checkpoint/inspect.ts'
export type { InspectedFile, InspectedTensor, Inspection } from './checkpoint/inspection.ts'
export type { CheckpointIteration } from './checkpoint/megatron-folder.ts'
export type { Verification, VerifyOptions } from './checkpoint/verification.ts'
export { verify } from './checkpoint/verify.ts'
export type { Segment } from './data/handlers/segments.ts'
export type { ArtifactFile } from './engine/artifact-files.ts'
export { artifactFiles } from './engine/artifact-files.ts'
export type { ComparedPlan, PlanDiff } from './engine/diff-plans.ts'
export { diffPlans } from './engine/diff-plans.ts'
export type { Placement } from './engine/placement.ts'
export type { Plan, PlannedStep, PlanOptions } from './engine/plan.ts'
export { plan } from './engine/plan.ts'
export type { Run, RunOptions } from './engine/run.ts'
export { run } from './engine/run.ts'
export type { ErrorCode } from './errors.ts'
export {
  FlowError,
  FormatError,
  InputError,
  isFlowError,
  JobError,
  LayoutError,
  StepError,
} from './errors.ts'
export type { LocalOptions } from './executors/local/local.ts'
export { local } from './executors/local/local.ts'
export type { Artifact } from './flow/artifact.ts'
export { defineArtifact } from './flow/artifact.ts'
export type { CallOptions, JobBody, StepContext, StepSpec } from './flow/call.ts'
export type { EventOf, FlowEvent } from './flow/event.ts'
export type { Executor, JobHandle, JobState, JobUpdate, SubmitOptions } from './flow/executor.ts'
export type { Launch, Word } from './flow/launch.ts'
export { torchrun } from './flow/launch.ts'
export type { In, Out, Ref, Target } from './flow/ref.ts'
export type { Step } from './flow/step.ts'
export { defineStep } from './flow/step.ts'
export type { DeviceFacts } from './layout/device-facts.ts'
export { devices } from './layout/device-facts.ts'
export type { LayoutAnswer, WantedLayout } from './layout/explain.ts'
export { explainLayout } from './layout/explain.ts'
export type { LayoutRuleName, Violation } from './layout/legality.ts'
export { layoutViolations } from './layout/legality.ts'
export type { MemoryParts, StageMemory, TrainingMemory } from './layout/memory.ts'
export { memoryMargin, trainingMemory } from './layout/memory.ts'
export type { JobMemory, PhaseMemory } from './layout/memory-phases.ts'
export { checkpointBytes, conversionMemory, jobMemory } from './layout/memory-phases.ts'
export type { Parallel, ParallelLayout } from './layout/parallel-layout.ts'
export { parallelLayout } from './layout/parallel-layout.ts'
export type { CheckpointIntervalOptions, TrainingPrice, TrainingPriceOptions } from './layout/price.ts'
export { checkpointInterval, trainingPrice } from './layout/price.ts'
export type { BatchNumbers, LayoutFlags, LayoutNumbers, LayoutProposal, ModelNumbers } from './layout/proposal.ts'
export type { PublishedThroughput } from './layout/published-throughput.ts'
export { publishedThroughputs } from './layout/published-throughput.ts'
export type { FoundLayout, LayoutSearch } from './layout/search.ts'
export { searchLayouts } from './layout/search.ts'
export type { Candidate, SearchOptions, SearchSpace } from './layout/search-space.ts'
export type { SmallestLayout, SmallestLayoutOptions } from './layout/smallest-layout.ts'
export { smallestLayout } from './layout/smallest-layout.ts'
export type { TrainingIterationsOptions } from './layout/training-iterations.ts'
export { trainingIterations } from './layout/training-iterations.ts'
export type { ModelShape, Recompute, TrainingShape } from './layout/training-shape.ts'
export type { IterationTime } from './layout/training-time.ts'
export { defaultEfficiency, iterationFlops, iterationTime, learnEfficiency } from './layout/training-time.ts'
export type { Recommendation } from './models/recommended.ts'
export { recommended } from './models/recommended.ts'
export type { RecommendedLayout } from './models/recommended-layouts.ts'
export { findModel, models } from './models/supported-model.ts'
export type { SupportedModel, TokenizerFacts } from './models/supported-models.ts'
export {
  Corpus,
  corpus,
  file,
  HfModel,
  hfModel,
  MegatronCheckpoint,
  MegatronDataset,
  PeftAdapter,
  peftAdapter,
  SourceFile,
} from './steps/artifacts.ts'
export type { GuideParameters, GuideTraining } from './steps/guide-parameters.ts'
export { guideParameters } from './steps/guide-parameters.ts'
export { hfToMegatron } from './steps/hf-to-megatron.ts'
export { megatronToHf } from './steps/megatron-to-hf.ts'
export { megatronToPeft } from './steps/megatron-to-peft.ts'
export { mergeLora } from './steps/merge-lora.ts'
export { peftToMegatron } from './steps/peft-to-megatron.ts'
export { preprocess } from './steps/preprocess.ts'
export type { PreprocessWithSpec } from './steps/preprocess-with.ts'
export { preprocessWith } from './steps/preprocess-with.ts'
export { PreprocessedDataset } from './steps/preprocessed-dataset.ts'
export { ReshardedCheckpoint, reshard } from './steps/reshard.ts'
export { TrainedCheckpoint, train } from './steps/train.ts'
