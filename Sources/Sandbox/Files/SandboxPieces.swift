import Glibc
package import SystemPackage

/// The directory with the shipped pieces of a directory server: schema, indexes, limits, access rules and example tree.
package struct SandboxPieces: Sendable {
    /// The file by which the directory is recognised.
    static let landmark = "stoney-cloud.schema"
    /// Where a package or an administrator puts the directory.
    static let installed: [FilePath] = [
        "/usr/share/prov-backup-rsnapshot/openldap", "/etc/Provisioning/openldap",
    ]

    /// The directory.
    package let directory: FilePath

    /// Finds the pieces: the directory that is named, else `etc/openldap` beside the running program or in a directory above
    /// it, else where they are installed.
    ///
    /// - Throws: ``SandboxError/Code/pieces`` with the places that were looked at.
    package init(at named: FilePath? = nil) throws(SandboxError) {
        let candidates: [FilePath]
        if let named {
            candidates = [named]
        } else {
            candidates = Self.above(Self.program()) + Self.installed
        }
        for candidate in candidates where access(candidate.appending(Self.landmark).string, R_OK) == 0 {
            directory = candidate
            return
        }
        let places = candidates.map(\.string).joined(separator: ", ")
        throw SandboxError(
            .pieces, "no \(Self.landmark) that can be read in \(places)",
            hint: "install the files that prov-backup-rsnapshot(8), LDAP SERVER, names")
    }

    /// The path of one piece.
    func file(_ name: String) -> FilePath { directory.appending(name) }

    /// `etc/openldap` in the directory of a program and in each directory above it, the nearest first.
    static func above(_ program: FilePath?) -> [FilePath] {
        var candidates: [FilePath] = []
        var files = program
        while files?.removeLastComponent() == true, let here = files {
            candidates.append(here.appending("etc").appending("openldap"))
        }
        return candidates
    }

    private static func program() -> FilePath? {
        var bytes = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = bytes.withUnsafeMutableBytes { buffer in
            buffer.withMemoryRebound(to: CChar.self) { room in
                room.baseAddress.map { readlink("/proc/self/exe", $0, room.count) } ?? 0
            }
        }
        return count > 0 ? FilePath(String(decoding: bytes[..<count], as: UTF8.self)) : nil
    }
}
