//! From pipelines and connectors to plans, and what must be there before.

use std::collections::BTreeMap;

use jiff::Timestamp;
use resources::{
    ConnectorPlan, ConnectorSpec, ConnectorState, PipelinePlan, PipelineSpec, StageTopics, StepPlan,
    StepSpec, TransformPlan, TransformRef, VersionRef,
};
use runtime::{StageState, StageStatus};
use store::Read;
use types::{InstallationId, Naming, StageKind, TopicName, Uid};

use super::Refused;
use super::topics::{SourceFacts, Want};
use super::world::{Of, World};
use crate::engine::EngineTopic;
use crate::resource::{StageFacts, VersionBody, facts, version};
use crate::seen::Sight;
use crate::{Control, Error, Stages};

/// What a stage is made of.
#[derive(Debug, Clone, Copy)]
enum What<'a> {
    Pipeline(&'a Of<PipelineSpec>),
    Connector(&'a Of<ConnectorSpec>),
}

/// A pipeline or a connector, as far as both are alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stage<'a> {
    pub(super) uid: Uid,
    workspace: &'a str,
    name: &'a str,
    generation: u64,
    what: What<'a>,
}

/// All stages.
pub(super) fn stages(world: &World) -> Vec<Stage<'_>> {
    fn stage<'a, T>(of: &'a Of<T>, what: What<'a>) -> Stage<'a> {
        let generation = of.resource.metadata.generation;
        Stage { uid: of.uid(), workspace: of.workspace(), name: of.name(), generation, what }
    }
    let pipelines = world.pipelines.iter().map(|of| stage(of, What::Pipeline(of)));
    pipelines.chain(world.connectors.iter().map(|of| stage(of, What::Connector(of)))).collect()
}

/// What a stage needs before it gets its plan.
#[derive(Debug)]
pub(super) struct Needs {
    /// All topics that it touches; those with a want are made for it.
    pub(super) topics: BTreeMap<TopicName, Option<Want>>,
    stage_topics: Option<StageTopics>,
    /// Why it can't run, whatever the engine has.
    wrong: Option<String>,
}

impl Needs {
    /// Why the plan can't be handed out yet.
    pub(super) fn missing(
        &self,
        engine: &BTreeMap<TopicName, EngineTopic>,
        refused: &Refused,
    ) -> Option<String> {
        if let Some(wrong) = &self.wrong {
            return Some(wrong.clone());
        }
        self.topics.iter().find_map(|(name, want)| {
            if let Some(reason) = refused.get(name) {
                return Some(format!("topic {name}: {reason}"));
            }
            let there = engine.get(name).map_or(0, |topic| topic.partitions);
            let wanted = want.as_ref().map_or(1, |want| want.partitions);
            match there {
                0 => Some(format!("topic {name} doesn't exist")),
                n if n < wanted => Some(format!("topic {name} has {n} partitions instead of {wanted}")),
                _ => None,
            }
        })
    }
}

impl Stage<'_> {
    fn kind(&self) -> StageKind {
        match self.what {
            What::Pipeline(_) => StageKind::Pipeline,
            What::Connector(_) => StageKind::Connector,
        }
    }

    fn sources(&self) -> Vec<&TopicName> {
        match self.what {
            What::Pipeline(of) => of.spec.sources.iter().map(|source| &source.topic).collect(),
            What::Connector(of) => of.spec.topics.iter().collect(),
        }
    }

    fn targets(&self) -> Vec<&TopicName> {
        match self.what {
            What::Pipeline(of) => of.spec.targets().into_iter().map(|(_, topic)| topic).collect(),
            What::Connector(_) => Vec::new(),
        }
    }

    /// What must be there, by what is wanted and what is.
    pub(super) fn needs(
        &self,
        world: &World,
        env: &str,
        wants: &BTreeMap<TopicName, Want>,
        engine: &BTreeMap<TopicName, EngineTopic>,
    ) -> Needs {
        let mut needs = Needs { topics: BTreeMap::new(), stage_topics: None, wrong: None };
        match self.system_topics(world, env, wants, engine, &mut needs.topics) {
            Ok(topics) => needs.stage_topics = Some(topics),
            Err(reason) => needs.wrong = Some(reason),
        }
        let foreign = needs.topics.keys().find(|topic| !world.may_use(env, self.workspace, topic));
        if let Some(topic) = foreign {
            needs.wrong = Some(format!("topic {topic} doesn't belong to workspace {}", self.workspace));
        }
        if needs.wrong.is_some() {
            // Nothing is made for a stage that can't run.
            needs.topics.clear();
        }
        needs
    }

    /// Its system topics by their names, whether they are there or not.
    fn stage_topics(&self, world: &World, env: &str) -> Result<StageTopics, String> {
        let naming = Naming { env, workspace: self.workspace };
        let retry =
            naming.retry(self.kind(), self.name).map_err(|error| format!("{error}: {}", error.source))?;
        let mut dlq = BTreeMap::new();
        for source in self.sources() {
            let letters = world.dlq(&naming, source)?;
            if letters == *source {
                return Err(format!("topic {source} is its own dead-letter topic"));
            }
            dlq.insert(source.clone(), letters);
        }
        // What comes back and fails again, and whose first origin is no source any more, needs a place too.
        if let Some(first) = self.sources().first().and_then(|source| dlq.get(*source)).cloned() {
            dlq.insert(retry.clone(), first);
        }
        Ok(StageTopics { dlq, retry })
    }

    fn system_topics(
        &self,
        world: &World,
        env: &str,
        wants: &BTreeMap<TopicName, Want>,
        engine: &BTreeMap<TopicName, EngineTopic>,
        topics: &mut BTreeMap<TopicName, Option<Want>>,
    ) -> Result<StageTopics, String> {
        let StageTopics { dlq, retry } = self.stage_topics(world, env)?;
        let mut want_retry = Want::default();
        let mut want_target = Want::default();
        let mut add = |topic: &TopicName, want: Option<Want>| {
            let entry = topics.entry(topic.clone()).or_default();
            match (entry, want) {
                (Some(there), Some(want)) => there.merge(want),
                (entry @ None, want) => *entry = want,
                (Some(_), None) => {}
            }
        };
        for source in self.sources() {
            add(source, None);
            let Some(facts) = SourceFacts::of(wants.get(source), engine.get(source)) else {
                return Err(format!(
                    "source topic {source} doesn't exist: create it, or apply a Topic of that name"
                ));
            };
            if let Some(letters) = dlq.get(source) {
                add(letters, Some(facts.copies()));
            }
            want_retry.merge(facts.copies());
            want_target.merge(facts.results());
        }
        add(&retry, Some(want_retry));
        for target in self.targets() {
            // A target that is there, or that a Topic describes, is as its owner wants it.
            let made = !wants.contains_key(target) && !engine.contains_key(target);
            add(target, made.then(|| want_target.clone()));
        }
        Ok(StageTopics { dlq, retry })
    }
}

/// A plan of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    Pipeline(PipelinePlan),
    Connector(ConnectorPlan),
}

impl Plan {
    pub(super) fn apply(&self, stages: &dyn Stages) {
        match self {
            Self::Pipeline(plan) => {
                let (workspace, generation) = (&plan.workspace, plan.generation);
                tracing::info!(workspace, pipeline = plan.name, generation, "plan handed out");
                stages.apply_pipeline(plan.clone());
            }
            Self::Connector(plan) => {
                let (workspace, generation) = (&plan.workspace, plan.generation);
                tracing::info!(workspace, connector = plan.name, generation, "plan handed out");
                stages.apply_connector(plan.clone());
            }
        }
    }
}

/// The plan of a pipeline by what is stored, for who reads what it reads and writes nothing: its topics needn't be there.
/// `None`: there is no such pipeline. `Err` inside: why there can't be a plan.
pub(crate) async fn pipeline_plan(
    control: &Control,
    store: &dyn Read,
    world: &World,
    workspace: &str,
    name: &str,
) -> Result<Option<Result<PipelinePlan, String>>, Error> {
    let all = stages(world);
    let is_it = |stage: &&Stage<'_>| {
        stage.workspace == workspace && stage.name == name && matches!(stage.what, What::Pipeline(_))
    };
    let Some(stage) = all.iter().find(is_it) else { return Ok(None) };
    let env = &control.config.env;
    let topics = match stage.stage_topics(world, env) {
        Ok(topics) => topics,
        Err(reason) => return Ok(Some(Err(reason))),
    };
    let foreign = stage.sources().into_iter().chain(stage.targets()).chain(topics.dlq.values());
    if let Some(topic) = foreign.into_iter().find(|topic| !world.may_use(env, workspace, topic)) {
        return Ok(Some(Err(format!("topic {topic} doesn't belong to workspace {workspace}"))));
    }
    let needs = Needs { topics: BTreeMap::new(), stage_topics: Some(topics), wrong: None };
    Ok(match Planner::default().plan(control.store.installation(), store, world, stage, needs).await? {
        Ok(Plan::Pipeline(plan)) => Some(Ok(plan)),
        Ok(Plan::Connector(_)) => None,
        Err(reason) => Some(Err(reason)),
    })
}

/// Makes plans; remembers versions, which never change, and since when stages are held.
#[derive(Debug, Default)]
pub(super) struct Planner {
    versions: BTreeMap<(Uid, u32), VersionBody>,
    held: BTreeMap<Uid, (String, Timestamp)>,
}

impl Planner {
    /// The plan, or why there can't be one. `Err` outside: the store failed.
    pub(super) async fn plan(
        &mut self,
        installation: InstallationId,
        store: &dyn Read,
        world: &World,
        stage: &Stage<'_>,
        needs: Needs,
    ) -> Result<Result<Plan, String>, Error> {
        let Some(topics) = needs.stage_topics else { return Ok(Err("its topics aren't known".into())) };
        let (workspace, name) = (stage.workspace.to_owned(), stage.name.to_owned());
        match stage.what {
            What::Pipeline(of) => {
                let StageFacts { wanted_state, restarts, .. } = facts(&of.resource)?;
                let steps = match self.steps(store, world, of).await? {
                    Ok(steps) => steps,
                    Err(reason) => return Ok(Err(reason)),
                };
                let PipelineSpec {
                    sources,
                    steps: _,
                    target,
                    guarantee: _,
                    on_error,
                    fan_out,
                    parallelism,
                    rollout: _,
                } = &of.spec;
                Ok(Ok(Plan::Pipeline(PipelinePlan {
                    installation,
                    uid: stage.uid,
                    generation: stage.generation,
                    workspace,
                    name,
                    sources: sources.clone(),
                    steps,
                    target: target.topic.clone(),
                    target_key: target.key.clone(),
                    on_error: *on_error,
                    fan_out: *fan_out,
                    parallelism: *parallelism,
                    topics,
                    paused: wanted_state != ConnectorState::Running,
                    restarts,
                })))
            }
            What::Connector(of) => {
                if let Some(allowed) = world.references(stage.workspace) {
                    let refused =
                        of.spec.references().into_iter().find(|(_, reference)| !allowed.allow(reference));
                    if let Some((key, reference)) = refused {
                        return Ok(Err(format!("{key}: {reference} isn't allowed in workspace {workspace}")));
                    }
                }
                // A new generation is a restart of all tasks.
                let StageFacts { wanted_state, .. } = facts(&of.resource)?;
                let ConnectorSpec { plugin, topics: sources, tasks_max, config } = &of.spec;
                Ok(Ok(Plan::Connector(ConnectorPlan {
                    installation,
                    uid: stage.uid,
                    generation: stage.generation,
                    workspace,
                    name,
                    plugin: plugin.clone(),
                    topics: sources.clone(),
                    tasks_max: *tasks_max,
                    config: config.clone(),
                    stage_topics: topics,
                    state: wanted_state,
                })))
            }
        }
    }

    async fn steps(
        &mut self,
        store: &dyn Read,
        world: &World,
        of: &Of<PipelineSpec>,
    ) -> Result<Result<Vec<StepPlan>, String>, Error> {
        let mut steps = Vec::with_capacity(of.spec.steps.len());
        for StepSpec { name, kind } in &of.spec.steps {
            let found = match kind.transform() {
                Some(transform) => {
                    self.transform(store, world, of.workspace(), name, transform).await?.map(Some)
                }
                None => Ok(None),
            };
            let step = found.and_then(|found| {
                let missing = || format!("step {name} has no transform");
                kind.try_map(|_| found.ok_or_else(missing))
            });
            match step {
                Ok(kind) => steps.push(StepPlan { name: name.clone(), kind }),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(steps))
    }

    /// The version of a transform that a step names, or why there is none.
    async fn transform(
        &mut self,
        store: &dyn Read,
        world: &World,
        workspace: &str,
        step: &str,
        TransformRef { transform, version: wanted }: &TransformRef,
    ) -> Result<Result<TransformPlan, String>, Error> {
        let Some(VersionRef::Number(number)) = *wanted else {
            return Ok(Err(format!("step {step} has no version number")));
        };
        let key = (workspace.to_owned(), transform.clone());
        let Some(uid) = world.transforms.get(&key) else {
            return Ok(Err(format!("transform {transform} doesn't exist")));
        };
        let body = match self.versions.get(&(*uid, number)) {
            Some(body) => body.clone(),
            None => match store.version(*uid, number).await? {
                Some(body) => self.versions.entry((*uid, number)).or_insert(version(body)?).clone(),
                None => return Ok(Err(format!("transform {transform} has no version {number}"))),
            },
        };
        let (hash, expression) = (body.hash, body.spec.expression);
        Ok(Ok(TransformPlan { transform: transform.clone(), version: number, hash, expression }))
    }

    /// What is said of a stage that is held back.
    pub(super) fn held(&mut self, stage: &Stage<'_>, reason: String) -> StageStatus {
        let entry = self.held.entry(stage.uid).or_insert_with(|| (String::new(), Timestamp::now()));
        if entry.0 != reason {
            tracing::warn!(workspace = stage.workspace, stage = stage.name, reason, "stage is held back");
            *entry = (reason, Timestamp::now());
        }
        StageStatus {
            kind: match stage.kind() {
                StageKind::Pipeline => "Pipeline",
                StageKind::Connector => "Connector",
                StageKind::Job => "StreamJob",
            }
            .into(),
            workspace: stage.workspace.to_owned(),
            name: stage.name.to_owned(),
            uid: stage.uid,
            state: StageState::Failed,
            reason: Some(entry.0.clone()),
            generation_wanted: stage.generation,
            generation_running: 0,
            version: None,
            lag: None,
            lag_seconds: None,
            in_total: 0,
            out_total: 0,
            dead_lettered_total: 0,
            since: entry.1,
        }
    }

    /// Forgets what no resource names any more.
    pub(super) fn forget_all_but(&mut self, world: &World, sight: &Sight) {
        let transforms: std::collections::BTreeSet<Uid> = world.transforms.values().copied().collect();
        self.versions.retain(|(uid, _), _| transforms.contains(uid));
        self.held.retain(|uid, _| sight.held.contains_key(uid));
    }
}
