//! What the hooked tracepoints and functions pass, in the kernel's own words, held against what the programs know how to read.
//!
//! The verifier holds each read against the type of its pointer, but not the order of two integers, nor what an argument means. A
//! kernel that passes something unknown gets no program of ours rather than wrong figures.

use btf_rs::{Btf, BtfType, Type};

use super::hooks::{Mode, Way};

/// How many pointers and qualifiers may lie around a type; the kernel's have a handful, and a damaged file may go round in circles.
const DEEPEST: u32 = 16;

/// The argument types of each typed hook, as far as this kernel has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prototypes(Vec<(&'static str, String)>);

impl Prototypes {
    /// Looks up those of the ways that get typed arguments.
    pub fn read(btf: &Btf, ways: impl Iterator<Item = &'static Way>) -> Self {
        Self(ways.filter_map(|way| Some((way.target, arguments(btf, way.mode, way.target)?))).collect())
    }

    /// The argument types of one, as C writes them but for `const`; `None` where this kernel has no such hook.
    pub fn arguments(&self, target: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == target).map(|(_, arguments)| arguments.as_str())
    }

    /// How many arguments it passes; 0 where this kernel has no such hook.
    pub fn count(&self, target: &str) -> u32 {
        let arguments = self.arguments(target).into_iter().flat_map(|arguments| arguments.split(", "));
        arguments.fold(0, |count, _| count + 1)
    }

    /// Why the program of `way` must not be attached.
    pub fn obstacle(&self, way: &Way) -> Option<String> {
        let Way { target, known, .. } = way;
        match self.arguments(target) {
            Some(arguments) if known.contains(&arguments) => None,
            Some(arguments) => {
                Some(format!("{target} passes ({arguments}) here; known is ({})", known.join(") or (")))
            }
            None => Some(format!("this kernel's types name no {target}")),
        }
    }
}

fn arguments(btf: &Btf, mode: Mode, target: &str) -> Option<String> {
    // A tracepoint's typedef is a pointer to a function that takes one argument more, the tracepoint's private data, first
    // (include/trace/bpf_probe.h, 5.10 to 7.2).
    let (name, private) = match mode {
        Mode::Btf => (format!("btf_trace_{target}"), 1),
        Mode::Fexit => (target.to_owned(), 0),
        Mode::Tracepoint | Mode::Cgroup => return None,
    };
    let found = btf.resolve_types_by_name(&name).ok()?;
    let mut current = found.into_iter().find(|found| matches!(found, Type::Typedef(_) | Type::Func(_)))?;
    for _ in 0..DEEPEST {
        if let Type::FuncProto(prototype) = current {
            let arguments = prototype.parameters.iter().skip(private);
            let types: Option<Vec<String>> =
                arguments.map(|argument| target_of(btf, argument, DEEPEST)).collect();
            return Some(types?.join(", "));
        }
        current = btf.resolve_chained_type(current.as_btf_type()?).ok()?;
    }
    None
}

/// The type that another one leads to, spelled out; nothing is `void`.
fn target_of(btf: &Btf, from: &(impl BtfType + ?Sized), depth: u32) -> Option<String> {
    match from.get_type_id()? {
        0 => Some("void".to_owned()),
        id => spell(btf, &btf.resolve_type_by_id(id).ok()?, depth.checked_sub(1)?),
    }
}

fn spell(btf: &Btf, r#type: &Type, depth: u32) -> Option<String> {
    let named =
        |keyword: &str, named: &dyn BtfType| Some(format!("{keyword}{}", btf.resolve_name(named).ok()?));
    match r#type {
        Type::Ptr(pointer) => Some(format!("{} *", target_of(btf, pointer, depth)?).replace("* *", "**")),
        Type::Const(inner) | Type::Volatile(inner) | Type::Restrict(inner) => target_of(btf, inner, depth),
        Type::TypeTag(inner) => target_of(btf, inner, depth),
        Type::Struct(structure) => named("struct ", structure),
        Type::Fwd(structure) => named("struct ", structure),
        Type::Union(union) => named("union ", union),
        Type::Enum(values) => named("enum ", values),
        Type::Enum64(values) => named("enum ", values),
        Type::Int(number) => named("", number),
        Type::Typedef(alias) => named("", alias),
        _ => None,
    }
}
