//! What is in each directory: names to nodes, from the catalogue alone down to the points.

use super::node::{self, SHOWN};
use super::{Error, Form, Node, Tree, files, wrong_form};
use crate::clock::Point;
use crate::vault::{self, Address, ResourceKind, ResourceName};

impl Tree {
    /// What `name` stands for in a directory, if anything.
    pub(super) fn child(&self, parent: &Node, name: &str) -> Result<Option<Node>, Error> {
        let node = match parent {
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
            Node::Point(_) | Node::Disks(_) => {
                let children = self.children(parent)?;
                children
                    .into_iter()
                    .find(|(child, _)| child == name)
                    .map(|(_, node)| node)
            }
            Node::Latest(_) | Node::Json(_) | Node::Image(..) => return Err(wrong_form(parent, Form::Directory)),
        };
        Ok(node)
    }

    /// Everything in a directory, sorted by name.
    pub(super) fn children(&self, node: &Node) -> Result<Vec<(String, Node)>, Error> {
        let named = |kind: ResourceKind| (kind.dir().to_owned(), Node::Kind(kind));
        Ok(match node {
            Node::Root => SHOWN.into_iter().map(named).collect(),
            Node::Kind(kind) => {
                let snapshot = self.snapshot();
                let of_kind = snapshot.keys().filter(|resource| resource.kind == *kind);
                of_kind
                    .map(|resource| (resource.name.clone(), Node::Resource(resource.clone())))
                    .collect()
            }
            Node::Resource(resource) => self.points_of(resource),
            Node::Point(address) => {
                let json = (node::JSON.to_owned(), Node::Json(address.clone()));
                match address.resource.kind {
                    ResourceKind::Disk => std::iter::once(json).chain(self.images(address)?).collect(),
                    ResourceKind::Server | ResourceKind::Filesystem => {
                        vec![json, (node::DISKS.to_owned(), Node::Disks(address.clone()))]
                    }
                }
            }
            Node::Disks(address) => self.images(address)?,
            Node::Latest(_) | Node::Json(_) | Node::Image(..) => return Err(wrong_form(node, Form::Directory)),
        })
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
