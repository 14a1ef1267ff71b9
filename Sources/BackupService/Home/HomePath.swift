package import SystemPackage

/// A home's place as a value: absolute, strictly below a root, and ending in the account's own uid, so that no entry can name
/// another's home. Whether the directories on the disk are what they should be is `HomeWalk`'s question.
package struct HomePath: Hashable, Sendable {
    /// The root under which it lies, as the settings spell it.
    package let root: FilePath
    /// The home, without the chroot mark.
    package let path: FilePath
    /// The home as the entry spells it, with `/./` where the chroot ends.
    package let text: String
    /// The shortest directory below the root that ends in the uid: what belongs to the account alone, and what a deletion takes away.
    package let accountDirectory: FilePath
    /// The volume, or else the root, that holds the account's directory; `.deleted` lies there.
    package let base: FilePath
    /// The directory before the mark `/./`.
    package let chroot: FilePath?

    init(
        root: FilePath, path: FilePath, text: String, accountDirectory: FilePath, base: FilePath, chroot: FilePath?
    ) {
        self.root = root
        self.path = path
        self.text = text
        self.accountDirectory = accountDirectory
        self.base = base
        self.chroot = chroot
    }

    /// Where the home shows the account's snapshots, and holds them with SNAPSHOTS = own.
    package var snapshots: FilePath { path.appending(HomeDirectory.snapshots) }
    /// Where they lie otherwise; see ``SnapshotStore``.
    package var store: FilePath { base.appending(SnapshotStore.directoryName).appending(accountName) }
    /// The uid.
    var accountName: FilePath.Component { accountDirectory.lastComponent ?? ".nameless" }

    /// The directories from the root down to the home.
    var directories: [FilePath.Component] { Self.directories(of: path, below: root) }
    var accountDirectories: [FilePath.Component] { Self.directories(of: accountDirectory, below: root) }
    var baseDirectories: [FilePath.Component] { Self.directories(of: base, below: root) }

    private static func directories(of path: FilePath, below root: FilePath) -> [FilePath.Component] {
        Array(path.components.dropFirst(root.components.count))
    }

    /// Why a text is not the place of a home; reads on after the text itself.
    struct Invalid: Error, Hashable {
        var reason: String
    }

    /// - Parameters:
    ///   - text: the attribute's value, free of control characters.
    ///   - uid: the account's; nil where it is unknown because it was itself wrong, and then the end is not compared.
    ///   - places: where homes may lie.
    init(parsing text: String, uid: String?, places: HomePlaces) throws(Invalid) {
        guard text.utf8.first == UInt8(ascii: "/") else { throw Invalid(reason: "which is not an absolute path") }
        guard text.utf8.count <= 1024 else { throw Invalid(reason: "which is longer than 1024 bytes") }
        var names: [String] = []
        var mark: Int?
        for name in text.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false).dropFirst()
            .map({ String(Substring($0)) })
        {
            if name == ".", mark == nil {
                mark = names.count
            } else {
                if let objection = Self.objection(to: name) { throw Invalid(reason: objection) }
                names.append(name)
            }
        }
        let path = Self.path(names[...])

        guard let root = places.root(containing: path), root != path else {
            throw Invalid(reason: "which lies under none of the allowed roots (\(places.rootList))")
        }
        let own = uid ?? names[names.count - 1]
        guard names.last == own else {
            throw Invalid(reason: "which does not end in the account's own uid \(own)")
        }
        let given = places.base(of: path)?.components.count ?? root.components.count
        if let other = names.dropFirst(given).first(where: { $0 != own && BackupAccount.isUID($0) }) {
            throw Invalid(reason: "which lies in the directory of another account, \(other)")
        }
        let depth = names.indices.first { $0 >= root.components.count && names[$0] == own } ?? names.count - 1
        let accountDirectory = depth == names.count - 1 ? path : Self.path(names.prefix(depth + 1))
        if let held = (places.roots + places.volumes).first(where: { $0.starts(with: accountDirectory) }) {
            throw Invalid(reason: "whose directory \(accountDirectory) holds \(held), a place for all homes")
        }
        if let mark, mark <= depth || mark == names.count {
            throw Invalid(
                reason: "whose mark /./ does not lie between the account's directory \(accountDirectory) and the home")
        }

        self.init(
            root: root, path: path, text: text, accountDirectory: accountDirectory,
            base: places.base(of: accountDirectory) ?? root,
            chroot: mark.map { Self.path(names.prefix($0)) })
    }

    private static func path(_ names: ArraySlice<String>) -> FilePath { FilePath("/" + names.joined(separator: "/")) }

    /// Names are kept to characters that mean nothing to rsnapshot, rsync and a shell; hidden directories are the daemon's own.
    private static func objection(to name: String) -> String? {
        switch true {
        case name.isEmpty: "which has an empty component"
        case name == "..": "which has a component .."
        case name == ".": "which has more than one component ."
        case name.hasPrefix("."): "whose component \(name) begins with a dot"
        case name.hasPrefix("-"): "whose component \(name) begins with a hyphen"
        case name.utf8.count > 255: "which has a component longer than 255 bytes"
        case !name.utf8.allSatisfy(isPlain):
            "whose component \(name) has other characters than letters, digits and ._-+=@,"
        default: nil
        }
    }

    private static func isPlain(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default: "._-+=@,".utf8.contains(byte)
        }
    }
}

/// The directories inside a home that clients of the service expect (specification: protocol.md#homes).
enum HomeDirectory {
    /// The upload root, the account's own.
    static let incoming: FilePath.Component = "incoming"
    /// rsnapshot's root: root's, else the account could swap it for a link and have root write anywhere.
    static let snapshots: FilePath.Component = ".snapshots"
    /// The account's keys.
    static let ssh: FilePath.Component = ".ssh"
}
