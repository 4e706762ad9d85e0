//! Offsets of kernel structure fields, from the kernel's own BTF.

use anyhow::{Context as _, anyhow};
use btf_rs::{Backend, Btf, Struct, Type};
use probe_ebpf::fields::{ABSENT, FIELDS};

use super::{capability::KERNEL_BTF, hooks::HOOKS, prototypes::Prototypes};

/// What the programs need to know of this kernel's types.
#[derive(Clone, Debug)]
pub struct Offsets {
    /// One offset in bytes per entry of [`FIELDS`], in its order; [`ABSENT`] where the kernel has no such field.
    pub fields: Vec<u32>,
    /// What the hooks pass.
    pub prototypes: Prototypes,
    /// Whether programs may ask for the task they run in, with its type.
    pub has_current_task: bool,
    /// Numbers of `unsigned char` and `unsigned int`; [`ABSENT`] where the kernel does not print values for programs.
    pub printed_types: [u32; 2],
    /// `SKB_DROP_REASON_NOT_SPECIFIED`; [`ABSENT`] before 5.17.
    pub drop_not_specified: u32,
    /// `SKB_DROP_REASON_TCP_RFC7323_TW_PAWS`; [`ABSENT`] where a timestamp that is too old has no reason of its own.
    pub drop_tw_paws: u32,
    /// `SKB_DROP_REASON_TCP_INVALID_SYN`; [`ABSENT`] where a SYN on an open connection has no reason of its own.
    pub drop_invalid_syn: u32,
}

impl Offsets {
    /// Every offset unknown: a kernel without BTF.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            fields: vec![ABSENT; FIELDS.len()],
            prototypes: Prototypes::default(),
            has_current_task: false,
            printed_types: [ABSENT; 2],
            drop_not_specified: ABSENT,
            drop_tw_paws: ABSENT,
            drop_invalid_syn: ABSENT,
        }
    }

    /// Reads the running kernel's types.
    pub fn read() -> anyhow::Result<Self> {
        // Mapping needs 6.16; before it the file can only be read.
        let btf = Btf::from_file_with_backend(KERNEL_BTF, Backend::Mmap)
            .or_else(|_| Btf::from_file(KERNEL_BTF))
            .with_context(|| format!("cannot parse {KERNEL_BTF}"))?;
        Self::of(&btf)
    }

    /// Takes them from the bytes of a BTF file.
    pub fn parse(bytes: &[u8]) -> anyhow::Result<Self> {
        Self::of(&Btf::from_bytes(bytes)?)
    }

    fn of(btf: &Btf) -> anyhow::Result<Self> {
        let fields = FIELDS
            .iter()
            .map(|field| {
                offset_of(btf, field.structure, field.member).with_context(|| {
                    format!("this kernel's struct {} has no {}", field.structure, field.member)
                })
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            fields,
            prototypes: Prototypes::read(btf, HOOKS.iter().flat_map(|hook| hook.ways)),
            has_current_task: has_helper(btf, "BPF_FUNC_get_current_task_btf"),
            printed_types: if has_helper(btf, "BPF_FUNC_snprintf_btf") {
                ["unsigned char", "unsigned int"].map(|name| integer(btf, name))
            } else {
                [ABSENT; 2]
            },
            drop_not_specified: enumerator(btf, "skb_drop_reason", "SKB_DROP_REASON_NOT_SPECIFIED"),
            drop_tw_paws: enumerator(btf, "skb_drop_reason", "SKB_DROP_REASON_TCP_RFC7323_TW_PAWS"),
            drop_invalid_syn: enumerator(btf, "skb_drop_reason", "SKB_DROP_REASON_TCP_INVALID_SYN"),
        })
    }
}

/// Structures without a name lie in each other no deeper than this.
const DEEPEST: u32 = 16;

/// Offset in bytes of a dotted member path.
fn offset_of(btf: &Btf, structure: &str, path: &str) -> anyhow::Result<u32> {
    let found = btf.resolve_types_by_name(structure)?;
    let mut current = found
        .into_iter()
        .find_map(|found| match found {
            Type::Struct(found) => Some(found),
            _ => None,
        })
        .ok_or_else(|| anyhow!("no struct {structure}"))?;
    let mut bits = 0;
    let mut names = path.split('.').peekable();
    while let Some(name) = names.next() {
        let (offset, member) =
            find_member(btf, &current, name, DEEPEST)?.ok_or_else(|| anyhow!("no member {name}"))?;
        bits = sum(bits, offset)?;
        if names.peek().is_some() {
            current = member.ok_or_else(|| anyhow!("{name} is no structure"))?;
        }
    }
    Ok(bits / 8)
}

fn sum(bits: u32, more: u32) -> anyhow::Result<u32> {
    bits.checked_add(more).context("it lies beyond every structure")
}

/// A member by name, looking through anonymous structures and unions: its offset in bits, and its type if it is a
/// structure itself.
fn find_member(
    btf: &Btf,
    within: &Struct,
    name: &str,
    depth: u32,
) -> anyhow::Result<Option<(u32, Option<Struct>)>> {
    let below = depth.checked_sub(1).context("its structures lie in each other without end")?;
    for member in &within.members {
        let offset = member.bit_offset();
        let inner = match btf.resolve_chained_type(member) {
            Ok(Type::Struct(inner) | Type::Union(inner)) => Some(inner),
            _ => None,
        };
        let member_name = btf.resolve_name(member).unwrap_or_default();
        if member_name == name {
            return Ok(Some((offset, inner)));
        }
        if member_name.is_empty()
            && let Some(inner) = &inner
            && let Some((inner_offset, found)) = find_member(btf, inner, name, below)?
        {
            return Ok(Some((sum(offset, inner_offset)?, found)));
        }
    }
    Ok(None)
}

/// Whether programs may call a helper of this name.
fn has_helper(btf: &Btf, name: &str) -> bool {
    enumerator(btf, "bpf_func_id", name) != ABSENT
}

/// The number of an integer type; [`ABSENT`] if there is none of that name.
fn integer(btf: &Btf, name: &str) -> u32 {
    let ids = btf.resolve_ids_by_name(name).unwrap_or_default();
    ids.into_iter().find(|&id| matches!(btf.resolve_type_by_id(id), Ok(Type::Int(_)))).unwrap_or(ABSENT)
}

/// A value of an enumeration, whose numbers may differ from kernel to kernel; [`ABSENT`] if there is none of that name.
fn enumerator(btf: &Btf, enumeration: &str, name: &str) -> u32 {
    let found = btf.resolve_types_by_name(enumeration).unwrap_or_default();
    let members = found.into_iter().find_map(|found| match found {
        Type::Enum(found) => Some(found.members),
        _ => None,
    });
    let member = members
        .unwrap_or_default()
        .into_iter()
        .find(|member| btf.resolve_name(member).is_ok_and(|member_name| member_name == name));
    member.map_or(ABSENT, |member| member.val())
}
