import Provisioning
import SystemPackage

/// The place of a home: absolute, below a root, and ending in the account's own uid, so that no entry can name another account's home.
/// A value; ``HomeWalk`` checks the directories on the disk.
struct HomePath: Hashable, Sendable {
    // The directories inside a home (specification: protocol.md#homes).

    /// The uploads; it belongs to the account.
    static let incomingName: FilePath.Component = "incoming"
    /// The snapshots. It belongs to root: otherwise the account could replace it by a link and make root write anywhere.
    static let snapshotsName: FilePath.Component = ".snapshots"
    /// The account's SSH keys.
    static let sshName: FilePath.Component = ".ssh"

    /// The root of HOME_ROOTS above it.
    let root: FilePath
    /// The home, without the chroot mark.
    let path: FilePath
    /// The home as in the entry, with `/./` where the chroot ends.
    let text: String
    /// The account's own directory, the first below the root that is named by the uid; a deletion removes it.
    let accountDirectory: FilePath
    /// The volume or root that holds the account's directory; `.deleted` and `.store` are there.
    let base: FilePath
    /// The directory before the mark `/./`.
    var chroot: FilePath?

    /// Where the home shows the account's snapshots, and where they are with SNAPSHOTS = own.
    var snapshots: FilePath { path.appending(HomePath.snapshotsName) }
    /// Where they are otherwise; see ``SnapshotStore``.
    var store: FilePath { base.appending(SnapshotStore.directoryName).appending(accountName) }
    /// The uid.
    var accountName: FilePath.Component { accountDirectory.lastComponent ?? ".nameless" }

    /// The failure of work that needs the home.
    /// - Parameters:
    ///   - file: by which a request would refuse to make the home again (``HomeWalk/isVacant()``); nil: it would make it.
    ///   - retry: the command that repeats a request; nil: the work repeats by itself.
    static func missing(
        at place: String, for file: ConfigurationFile? = nil, retry: String? = nil
    ) -> ProvisioningFailure {
        let again = ConfiguredSnapshots.provisionAgain
        let next =
            switch (file?.path.shellWord, retry) {
            case (nil, _): "; else \(again)"
            case (let file?, nil): "; if the home is lost, rm \(file), and then \(again)"
            case (let file?, let retry?): ", or, if the home is lost, rm \(file); then run: \(retry)"
            }
        return ProvisioningFailure(
            .cannotCheckHomeDirPresence, reason: "there is no home at \(place)",
            hint:
                "mount its volume if it is not mounted, or bring an archived home back from .deleted of its volume\(next)"
        )
    }

    /// Why a text is not the place of a home. The reason continues the text in a sentence.
    struct Invalid: Error, Hashable {
        var reason: String
    }
}

extension HomePath {
    /// - Parameters:
    ///   - text: the attribute's value, without control characters.
    ///   - uid: the account's; nil: it is wrong itself, and the end of the path is not compared.
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
        let path = mark == nil ? FilePath(text) : Self.path(names[...])

        guard let root = places.root(containing: path), root != path else {
            throw Invalid(reason: "which lies under none of the allowed roots (\(places.rootList))")
        }
        let own = uid ?? names[names.count - 1]
        guard names.last == own else {
            throw Invalid(reason: "which does not end in the account's own uid \(own)")
        }
        let base = places.base(of: path) ?? root
        if let other = names.dropFirst(base.components.count).first(where: { $0 != own && BackupAccount.isUID($0) }) {
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
            root: root, path: path, text: text, accountDirectory: accountDirectory, base: base,
            chroot: mark.map { Self.path(names.prefix($0)) })
    }

    private static func path(_ names: ArraySlice<String>) -> FilePath { FilePath("/" + names.joined(separator: "/")) }

    /// Only characters without a meaning to rsnapshot, rsync and a shell are accepted; hidden directories belong to the daemon.
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
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
            UInt8(ascii: "+"), UInt8(ascii: "="), UInt8(ascii: "@"), UInt8(ascii: ","):
            true
        default: false
        }
    }
}
