public import SystemPackage

/// How the place of a home is found (setting HOME_LAYOUT).
public enum HomeLayout: String, CaseIterable, Hashable, Sendable {
    /// `homeDirectory` is taken as it is.
    case attribute
    /// The place is computed from the uid below a volume.
    case hashed
}

/// A pool: volumes over which new homes are spread (settings, section `[Pool NAME]`).
public struct Pool: Hashable, Sendable {
    /// The name in the settings.
    public let name: String
    /// Folders, usually mounts, that hold homes.
    public let volumes: [FilePath]

    /// A pool of these volumes.
    public init(name: String, volumes: [FilePath]) {
        self.name = name
        self.volumes = volumes
    }

    /// What the pool of the roots is called where the settings have none.
    public static let defaultName = "Default"
}

/// The only places under which homes may lie.
public struct HomePlaces: Hashable, Sendable {
    /// HOME_LAYOUT.
    public let layout: HomeLayout
    /// Absolute folders (setting HOME_ROOTS).
    public let roots: [FilePath]
    /// Their volumes lie in or below a root; one pool of the roots themselves where none is configured.
    public let pools: [Pool]
    /// Those of all pools.
    public let volumes: [FilePath]

    /// - Parameters:
    ///   - layout: how the place of a home is found.
    ///   - roots: absolute folders, none of them `/`.
    ///   - pools: those without volumes count for nothing; none at all means that the roots are the volumes.
    public init(layout: HomeLayout = .attribute, roots: [FilePath], pools: [Pool] = []) {
        self.layout = layout
        self.roots = roots
        let used = pools.filter { !$0.volumes.isEmpty }
        self.pools = used.isEmpty ? [Pool(name: Pool.defaultName, volumes: roots)] : used
        volumes = self.pools.flatMap(\.volumes)
    }

    /// The pool that a volume belongs to; nil for a folder that is none.
    public func pool(of volume: FilePath) -> Pool? { pools.first { $0.volumes.contains(volume) } }

    /// What is wrong with the settings themselves; empty when nothing is.
    var problems: [(reason: String, cure: String)] {
        var problems: [(reason: String, cure: String)] = []
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
        let path = HashedLayout.folders(uid: uid).reduce(volume) { $0.appending($1) }
        return HomePath(
            root: root(containing: volume) ?? volume, path: path, text: path.string, accountDirectory: path,
            base: volume,
            chroot: nil)
    }
}

/// The rule by which the old daemon spread homes over folders.
enum HashedLayout {
    /// `d6`, `d4d5d6`, `d1d2d3`, uid; fewer than six digits are filled up with zeros.
    static func folders(uid: String) -> [String] {
        let digits = Array((String(repeating: "0", count: max(0, 6 - uid.count)) + uid).suffix(6))
        return [String(digits[5]), String(digits[3...5]), String(digits[0...2]), uid]
    }
}
