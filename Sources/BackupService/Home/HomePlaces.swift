import Glibc
import Provisioning
package import SystemPackage

/// How the place of a home is found (setting HOME_LAYOUT).
package enum HomeLayout: String, CaseIterable, Hashable, Sendable {
    /// `homeDirectory` of the entry.
    case attribute
    /// Computed from the uid, below a volume.
    case hashed
}

/// A pool: volumes over which new homes are spread; the section `[Pool NAME]`.
package struct Pool: Hashable, Sendable {
    /// The name in the settings.
    package var name = ""
    /// Directories, usually mounts, that hold homes.
    package var volumes: [FilePath] = []

    /// The name of the pool of the roots, if the settings have none.
    package static let defaultName = "Default"

    package init() {}

    package init(name: String, volumes: [FilePath]) {
        self.name = name
        self.volumes = volumes
    }
}

/// Where homes may be.
package struct HomePlaces: Hashable, Sendable {
    package var layout = HomeLayout.attribute
    /// Absolute directories other than `/`.
    package var roots: [FilePath] = ["/var/backup"]
    /// The pools of the settings; those without volumes are ignored.
    package var configuredPools: [Pool] = []

    /// The configured pools, whose volumes are in or below a root; else one pool of the roots.
    package var pools: [Pool] {
        let used = configuredPools.filter { !$0.volumes.isEmpty }
        return used.isEmpty ? [Pool(name: Pool.defaultName, volumes: roots)] : used
    }
    /// The volumes of all pools.
    package var volumes: [FilePath] { pools.flatMap(\.volumes) }

    /// Volumes and roots, each once, sorted.
    var bases: [FilePath] { Set(volumes + roots).sorted { $0.string < $1.string } }

    func pool(of volume: FilePath) -> Pool? { pools.first { $0.volumes.contains(volume) } }

    /// What is wrong with the settings.
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
            problems.append(("VOLUMES names \(volume) twice", "name each volume once, in one pool"))
        }
        return problems
    }

    var rootList: String { roots.map(\.string).joined(separator: " ") }

    /// The longest root that is the path or a parent of it.
    func root(containing path: FilePath) -> FilePath? { Self.longest(roots.filter { path.starts(with: $0) }) }

    /// The longest volume or root that is a parent of the path.
    func base(of path: FilePath) -> FilePath? {
        Self.longest((volumes + roots).filter { path.starts(with: $0) && path != $0 })
    }

    private static func longest(_ paths: [FilePath]) -> FilePath? {
        paths.max { $0.components.count < $1.components.count }
    }

    /// `d6/d4d5d6/d1d2d3/UID` below a directory, where d1…d6 are the last six digits of the uid; a shorter uid is padded with zeros.
    static func hashed(_ uid: String, below directory: FilePath) -> FilePath {
        let digits = Array((String(repeating: "0", count: max(0, 6 - uid.count)) + uid).suffix(6))
        return [String(digits[5]), String(digits[3...5]), String(digits[0...2]), uid]
            .reduce(directory) { $0.appending($1) }
    }

    /// The home in layout `hashed`.
    func hashedHome(uid: String, volume: FilePath) -> HomePath {
        let path = Self.hashed(uid, below: volume)
        return HomePath(
            root: root(containing: volume) ?? volume, path: path, text: path.string, accountDirectory: path,
            base: volume)
    }
}

// MARK: - The place of one home

/// The place of an account's home.
enum HomePlace {
    /// The place is fixed, or the home exists there.
    case given(HomePath)
    /// The account has no home yet. Of the volume with the most free space the pool, its volumes with the most free space first.
    case new(Pool)
}

extension HomePlaces {
    /// The home in layout `attribute`; nil in layout `hashed`.
    func fixedHome(of account: BackupAccount) -> HomePath? { layout == .attribute ? account.homes.first : nil }

    /// Finds the place of an account's home. It reads the disk.
    /// - Throws: code 4 when a volume cannot be examined, since the home might be there, or when two volumes hold one.
    func place(of account: BackupAccount) throws(ProvisioningFailure) -> HomePlace {
        if let home = fixedHome(of: account) { return .given(home) }
        var walks: [HomeWalk] = []
        for home in account.homes {
            let walk = try HomeWalk(to: home)
            guard walk.base != nil else {
                throw ProvisioningFailure(
                    .cannotCheckHomeDirPresence, .configuration, reason: "the volume \(home.base) does not exist",
                    hint: "mount it, or correct VOLUMES")
            }
            walks.append(walk)
        }
        if let (first, second) = try Self.twins(walks.compactMap(\.base), below: walks[0].home.root) {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, .configuration, reason: "\(first) and \(second) are the same directory",
                hint: Self.twinHint)
        }
        let existing = walks.filter { $0.account != nil }
        guard existing.count < 2 else {
            let directories = existing.map { "\($0.home.accountDirectory)" }.joined(separator: " and ")
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "\(account.dn): the account has homes in \(directories)",
                hint: "move one of them away")
        }
        if let walk = existing.first { return .given(walk.home) }
        // The snapshots may exist without the home.
        for walk in walks where try walk.store() != nil { return .given(walk.home) }
        let volumes = walks.map { ($0.home.base, Self.freeBytes($0)) }.sorted { $0.1 > $1.1 }.map(\.0)
        guard var pool = volumes.first.flatMap({ pool(of: $0) }) else {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, .configuration, reason: "no volume is configured",
                hint: "name the volumes in VOLUMES of a [Pool NAME] section")
        }
        pool.volumes = volumes.filter(pool.volumes.contains)
        return .new(pool)
    }

    static let twinHint = "name it once in HOME_ROOTS and VOLUMES"

    /// Two volumes that are one directory, such as a symbolic link and its target.
    var twins: (FilePath, FilePath)? {
        try? Self.twins(volumes.compactMap { try? HeldDirectory(configured: $0) }, below: "/")
    }

    private static func twins(
        _ bases: [HeldDirectory], below root: FilePath
    ) throws(ProvisioningFailure) -> (FilePath, FilePath)? {
        try HomeWalk.explained(below: root) {
            for (index, base) in bases.enumerated() {
                if let other = try bases.prefix(index).first(where: { try $0.isSame(as: base) }) {
                    return (other.path, base.path)
                }
            }
            return nil
        }
    }

    /// The home of an account that has one; nil: it has none yet.
    func home(of account: BackupAccount) throws(ProvisioningFailure) -> HomePath? {
        if case .given(let home) = try place(of: account) { home } else { nil }
    }

    /// 0 also where no home can be made: on a read-only volume, and without free inodes.
    private static func freeBytes(_ walk: HomeWalk) -> UInt64 {
        var system = statvfs()
        guard let base = walk.base, fstatvfs(base.descriptor, &system) == 0, system.f_flag & UInt(ST_RDONLY) == 0,
            system.f_files == 0 || system.f_favail > 0
        else { return 0 }
        return UInt64(system.f_bavail) * UInt64(system.f_frsize)
    }
}

// MARK: - Volumes in events (specification: rows.md B7)

extension HomePlaces {
    /// The volume of an account's home by its uid; the first volume if there is no home, no uid, or the layout is `attribute`. It reads the disk.
    package func volume(ofAccount uid: String?) -> FilePath? {
        guard layout == .hashed, volumes.count > 1, let uid, uid.count >= 7, uid.utf8.allSatisfy({ 0x30...0x39 ~= $0 })
        else { return volumes.first }
        return volumes.first { access(Self.hashed(uid, below: $0).string, F_OK) == 0 } ?? volumes.first
    }

    /// Reads the kernel's list of mounts; the volume itself is not accessed.
    /// - Returns: the volume's pool and the type of its file system, such as `ext4` (empty: unknown); nil for a directory that is not a volume.
    package func facts(of volume: FilePath) -> (pool: Pool, mediaType: String)? {
        guard let pool = pool(of: volume) else { return nil }
        let mount = try? MountTable.current(near: volume).mount(holding: volume, device: "")
        return (pool, mount?.type ?? "")
    }
}
