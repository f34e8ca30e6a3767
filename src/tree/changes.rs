//! Compares two catalogues: what the kernel must be told when backups come and go.

use super::node::{Ino, LATEST, Node, SHOWN};
use crate::clock::Point;
use crate::vault::{Address, Catalogue, ResourceKind, ResourceName};

/// Something that the kernel may have cached and that is no longer true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A name in a directory stands for something else, or for nothing, or for something at last.
    Name {
        /// The directory.
        parent: Ino,
        /// The name in it.
        name: String,
    },
    /// A node's attributes, link target or list of names changed.
    Node(Ino),
}

/// Everything that changes between two catalogues, and the backups that are gone.
#[must_use]
pub fn between(old: &Catalogue, new: &Catalogue) -> (Vec<Change>, Vec<Address>) {
    let mut changes = Vec::new();
    let mut gone = Vec::new();
    for kind in SHOWN {
        let before = changes.len();
        for resource in names(old, new, kind) {
            let (old, new) = (points(old, resource), points(new, resource));
            if old != new {
                in_resource(resource, old, new, &mut changes);
                gone.extend(missing(old, new).map(|point| Address {
                    resource: resource.clone(),
                    point,
                }));
            }
        }
        // The newest time below is each directory's own time.
        if changes.len() > before {
            changes.push(Change::Node(Node::Kind(kind).ino()));
        }
    }
    if !changes.is_empty() {
        changes.push(Change::Node(Ino::ROOT));
    }
    (changes, gone)
}

fn names<'a>(
    old: &'a Catalogue,
    new: &'a Catalogue,
    kind: ResourceKind,
) -> std::collections::BTreeSet<&'a ResourceName> {
    old.keys()
        .chain(new.keys())
        .filter(|resource| resource.kind == kind)
        .collect()
}

fn points<'a>(catalogue: &'a Catalogue, resource: &ResourceName) -> &'a [Point] {
    catalogue.get(resource).map_or(&[], Vec::as_slice)
}

/// The points of `one` that are not in `other`; both sorted.
fn missing<'a>(one: &'a [Point], other: &'a [Point]) -> impl Iterator<Item = Point> {
    one.iter().copied().filter(|point| other.binary_search(point).is_err())
}

fn in_resource(resource: &ResourceName, old: &[Point], new: &[Point], changes: &mut Vec<Change>) {
    let node = Node::Resource(resource.clone());
    let parent = node.ino();
    changes.extend(missing(old, new).chain(missing(new, old)).map(|point| Change::Name {
        parent,
        name: point.to_string(),
    }));
    if old.last() != new.last() {
        changes.push(Change::Name {
            parent,
            name: LATEST.to_owned(),
        });
        changes.push(Change::Node(Node::Latest(resource.clone()).ino()));
    }
    changes.push(Change::Node(parent));
    if old.is_empty() || new.is_empty() {
        changes.push(Change::Name {
            parent: Node::Kind(resource.kind).ino(),
            name: resource.name.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(name: &str) -> ResourceName {
        ResourceName {
            kind: ResourceKind::Server,
            name: name.into(),
        }
    }

    fn at(seconds: i64) -> Point {
        Point::from_seconds(seconds).unwrap()
    }

    #[test]
    fn nothing_new_is_no_change() {
        let catalogue = Catalogue::from([(server("a"), vec![at(1), at(2)])]);
        assert_eq!(between(&catalogue, &catalogue), (vec![], vec![]));
    }

    #[test]
    fn a_new_backup_moves_latest_and_a_deleted_one_is_gone() {
        let old = Catalogue::from([(server("a"), vec![at(1), at(2)])]);
        let new = Catalogue::from([(server("a"), vec![at(2), at(3)])]);
        let (changes, gone) = between(&old, &new);
        let parent = Node::Resource(server("a")).ino();
        let name = |name: String| Change::Name { parent, name };
        assert_eq!(
            changes,
            [
                name(at(1).to_string()),
                name(at(3).to_string()),
                name("latest".into()),
                Change::Node(Node::Latest(server("a")).ino()),
                Change::Node(parent),
                Change::Node(Node::Kind(ResourceKind::Server).ino()),
                Change::Node(Ino::ROOT),
            ]
        );
        assert_eq!(
            gone,
            [Address {
                resource: server("a"),
                point: at(1)
            }]
        );
    }

    #[test]
    fn the_first_and_the_last_backup_change_the_list_of_resources() {
        let none = Catalogue::new();
        let one = Catalogue::from([(server("a"), vec![at(1)])]);
        let wanted = Change::Name {
            parent: Node::Kind(ResourceKind::Server).ino(),
            name: "a".into(),
        };
        assert!(between(&none, &one).0.contains(&wanted));
        assert!(between(&one, &none).0.contains(&wanted));
    }
}
