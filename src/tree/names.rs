//! What is in each directory: names to nodes, from the catalogue alone down to the points.

use super::node::{self, SHOWN};
use super::place::Inside;
use super::{Error, Node, Tree, files, wrong_type};
use crate::clock::Point;
use crate::fs::FileType;
use crate::vault::{self, Address, ResourceKind, ResourceName};

impl Tree {
    /// What `name` stands for in a directory, if anything.
    pub(super) fn child(&self, parent: &Node, name: &[u8]) -> Result<Option<Node>, Error> {
        if let Node::Inside(directory) = parent {
            return Ok(self.child_inside(directory, name)?.map(Node::Inside));
        }
        // No name of ours is anything but ASCII.
        let Ok(name) = std::str::from_utf8(name) else {
            return Ok(None);
        };
        let node = match parent {
            // Not listed: it is not of the backups.
            Node::Root if name == node::HOUSE => self.is_remote().then_some(Node::House),
            Node::House => (name == node::STATUS).then_some(Node::Status),
            Node::Root => SHOWN.into_iter().find(|kind| kind.dir() == name).map(Node::Kind),
            Node::Kind(kind) => {
                let resource = ResourceName {
                    kind: *kind,
                    name: name.to_owned(),
                };
                self.newest(&resource).map(|_| Node::Resource(resource))
            }
            Node::Resource(resource) if name == node::LATEST => {
                self.newest(resource).map(|_| Node::Latest(resource.clone()))
            }
            Node::Resource(resource) => name.parse().ok().and_then(|point| {
                let address = Address {
                    resource: resource.clone(),
                    point,
                };
                self.has(&address).then_some(Node::Point(address))
            }),
            // Not by the list of all: only `root` needs a look at the disks.
            Node::Point(address) if name == node::JSON => Some(Node::Json(address.clone())),
            Node::Point(address) if address.resource.kind == ResourceKind::Filesystem => match name {
                node::TREE => self.tree_of(address)?,
                _ => None,
            },
            Node::Point(address) if name == node::VOLUMES => Some(Node::Volumes(address.clone())),
            Node::Point(address) if address.resource.kind != ResourceKind::Disk => match name {
                node::DISKS => Some(Node::Disks(address.clone())),
                node::ROOT => self.root_of(address)?,
                _ => None,
            },
            Node::Point(_) | Node::Disks(_) | Node::Volumes(_) => {
                let children = self.children(parent)?;
                children
                    .into_iter()
                    .find(|(child, _)| child == name)
                    .map(|(_, node)| node)
            }
            Node::Latest(_) | Node::Json(_) | Node::Image(..) | Node::Inside(_) | Node::Status => {
                return Err(wrong_type(parent, FileType::Directory));
            }
        };
        Ok(node)
    }

    /// Everything in a directory that is no directory inside an image, sorted by name.
    pub(super) fn children(&self, node: &Node) -> Result<Vec<(String, Node)>, Error> {
        let named = |kind: ResourceKind| (kind.dir().to_owned(), Node::Kind(kind));
        Ok(match node {
            Node::Root => SHOWN.into_iter().map(named).collect(),
            Node::House => vec![(node::STATUS.to_owned(), Node::Status)],
            Node::Kind(kind) => {
                let snapshot = self.snapshot();
                let of_kind = snapshot.keys().filter(|resource| resource.kind == *kind);
                of_kind
                    .map(|resource| (resource.name.clone(), Node::Resource(resource.clone())))
                    .collect()
            }
            Node::Resource(resource) => self.points_of(resource),
            Node::Point(address) => {
                let mut children = vec![(node::JSON.to_owned(), Node::Json(address.clone()))];
                match address.resource.kind {
                    ResourceKind::Filesystem => {
                        let tree = self.tree_of(address)?;
                        children.extend(tree.map(|tree| (node::TREE.to_owned(), tree)));
                        return Ok(children);
                    }
                    ResourceKind::Disk => children.extend(self.images(address)?),
                    ResourceKind::Server => {
                        children.push((node::DISKS.to_owned(), Node::Disks(address.clone())));
                        let root = self.root_of(address)?;
                        children.extend(root.map(|root| (node::ROOT.to_owned(), root)));
                    }
                }
                children.push((node::VOLUMES.to_owned(), Node::Volumes(address.clone())));
                children
            }
            Node::Disks(address) => self.images(address)?,
            Node::Volumes(address) => {
                let contents = self.contents(address)?;
                let places = contents.volumes.iter().map(|shown| &shown.place);
                places
                    .map(|place| (place.volume.clone(), Node::Inside(Inside::root(place))))
                    .collect()
            }
            Node::Latest(_) | Node::Json(_) | Node::Image(..) | Node::Inside(_) | Node::Status => {
                return Err(wrong_type(node, FileType::Directory));
            }
        })
    }

    /// The server's own tree. Where there is none it is not shown as an empty directory: somebody might mirror that.
    fn root_of(&self, address: &Address) -> Result<Option<Node>, Error> {
        let contents = self.contents(address)?;
        Ok(contents.mounts.first().map(|place| Node::Inside(Inside::root(place))))
    }

    /// The files of a file system.
    fn tree_of(&self, address: &Address) -> Result<Option<Node>, Error> {
        let contents = self.contents(address)?;
        Ok(contents
            .tree
            .as_ref()
            .map(|tree| Node::Inside(Inside::root(&tree.place))))
    }

    fn points_of(&self, resource: &ResourceName) -> Vec<(String, Node)> {
        let snapshot = self.snapshot();
        let points = snapshot.get(resource).map_or(&[][..], Vec::as_slice);
        let address = |point: &Point| Address {
            resource: resource.clone(),
            point: *point,
        };
        let latest = points
            .last()
            .map(|_| (node::LATEST.to_owned(), Node::Latest(resource.clone())));
        let listed = points
            .iter()
            .map(|point| (point.to_string(), Node::Point(address(point))));
        listed.chain(latest).collect()
    }

    fn images(&self, address: &Address) -> Result<Vec<(String, Node)>, Error> {
        let backup = self.backup(address)?;
        let image = |disk: &vault::Disk| {
            let name = files::image_name(address.resource.kind, &disk.name);
            (
                format!("{name}{}", node::IMAGE_SUFFIX),
                Node::Image(address.clone(), name.to_owned()),
            )
        };
        let mut images: Vec<_> = backup.manifest.disks().iter().map(image).collect();
        images.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(images)
    }
}
