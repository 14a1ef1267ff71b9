import Glibc
package import SystemPackage

/// How the place of a home is found (setting HOME_LAYOUT).
package enum HomeLayout: String, CaseIterable, Hashable, Sendable {
    /// `homeDirectory` is taken as it is.
    case attribute
    /// The place is computed from the uid below a volume.
    case hashed
}

/// A pool: volumes over which new homes are spread, the section `[Pool NAME]`.
package struct Pool: Hashable, Sendable {
    /// The name in the settings.
    package var name = ""
    /// Directories, usually mounts, that hold homes.
    package var volumes: [FilePath] = []

    /// The name of the pool of the roots, where the settings have none.
    package static let defaultName = "Default"

    /// A pool without volumes.
    package init() {}

    package init(name: String, volumes: [FilePath]) {
        self.name = name
        self.volumes = volumes
    }
}

/// The only places under which homes may lie.
package struct HomePlaces: Hashable, Sendable {
    package var layout = HomeLayout.attribute
    /// Absolute directories, none of them `/`.
    package var roots: [FilePath] = ["/var/backup"]
    /// The pools of the settings; those without volumes are not used.
    package var configuredPools: [Pool] = []

    /// Their volumes lie in or below a root; one pool of the roots themselves where none is configured.
    package var pools: [Pool] {
        let used = configuredPools.filter { !$0.volumes.isEmpty }
        return used.isEmpty ? [Pool(name: Pool.defaultName, volumes: roots)] : used
    }
    /// Those of all pools.
    package var volumes: [FilePath] { pools.flatMap(\.volumes) }

    /// The pool that a volume belongs to; nil for a directory that is none.
    package func pool(of volume: FilePath) -> Pool? { pools.first { $0.volumes.contains(volume) } }

    /// What is wrong with the settings themselves; empty when nothing is.
    var problems: [(reason: String, hint: String)] {
        var problems: [(reason: String, hint: String)] = []
        if roots.isEmpty { problems.append(("HOME_ROOTS is empty", "name the directory under which homes may lie")) }
        for root in roots where !root.isAbsolute || root.components.isEmpty || !root.isLexicallyNormal {
            problems.append(
                ("HOME_ROOTS names \(root)", "write the absolute path of a directory other than /, without . and .."))
        }
        for volume in volumes where root(containing: volume) == nil || !volume.isLexicallyNormal {
            problems.append(
                (
                    "the volume \(volume) lies under none of \(rootList)",
                    "add its parent to HOME_ROOTS, or correct VOLUMES"
                ))
        }
        for (index, volume) in volumes.enumerated() where volumes.prefix(index).contains(volume) {
            problems.append(("the volume \(volume) stands in VOLUMES twice", "name each volume once, in one pool"))
        }
        return problems
    }

    var rootList: String { roots.map(\.string).joined(separator: " ") }

    /// The longest root that is the path or a parent of it.
    func root(containing path: FilePath) -> FilePath? {
        roots.filter { path.starts(with: $0) }.max { $0.components.count < $1.components.count }
    }

    /// The longest volume, or else root, that is a parent of the path.
    func base(of path: FilePath) -> FilePath? {
        (volumes + roots).filter { path.starts(with: $0) && path != $0 }
            .max { $0.components.count < $1.components.count }
    }

    /// `VOLUME/d6/d4d5d6/d1d2d3/UID`, where d1…d6 are the last six digits of the uid.
    /// - Parameter uid: seven digits or more.
    func hashedHome(uid: String, volume: FilePath) -> HomePath {
        let path = HashedLayout.directories(uid: uid).reduce(volume) { $0.appending($1) }
        return HomePath(
            root: root(containing: volume) ?? volume, path: path, text: path.string, accountDirectory: path,
            base: volume,
            chroot: nil)
    }
}

/// The rule by which the old daemon spread homes over directories.
enum HashedLayout {
    /// `d6`, `d4d5d6`, `d1d2d3`, uid; fewer than six digits are filled up with zeros.
    static func directories(uid: String) -> [String] {
        let digits = Array((String(repeating: "0", count: max(0, 6 - uid.count)) + uid).suffix(6))
        return [String(digits[5]), String(digits[3...5]), String(digits[0...2]), uid]
    }
}

/// What handlers are told of a volume (specification: rows.md B7).
package struct VolumeFacts: Hashable, Sendable {
    /// The volume's path, which is also its name.
    package let volume: FilePath
    /// The pool that it belongs to.
    package let pool: Pool
    /// The type of its file system, such as `ext4`; empty where it cannot be told.
    package let mediaType: String
}

extension HomePlaces {
    /// The volume that holds an account's home, as far as its uid tells: where homes lie where their entries say, and while there is no home
    /// yet, it is the first one.
    /// - Parameter uid: nil, and whatever is no uid: the first volume. It looks at the disk.
    package func volume(ofAccount uid: String?) -> FilePath? {
        guard layout == .hashed, volumes.count > 1, let uid, uid.count >= 7, uid.utf8.allSatisfy({ 0x30...0x39 ~= $0 })
        else { return volumes.first }
        let home = volumes.first { volume in
            access(hashedHome(uid: uid, volume: volume).accountDirectory.string, F_OK) == 0
        }
        return home ?? volumes.first
    }

    /// By the kernel's list of mounts; the volume itself is not touched.
    /// - Returns: nil for a directory that is no volume.
    package func facts(of volume: FilePath) -> VolumeFacts? {
        guard let pool = pool(of: volume) else { return nil }
        let type: String?
        do {
            type = try MountTable.current(near: volume).mount(holding: volume, device: "")?.type
        } catch {
            type = nil
        }
        return VolumeFacts(volume: volume, pool: pool, mediaType: type ?? "")
    }
}
