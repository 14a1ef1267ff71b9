import SystemPackage

/// The passwords of a sandbox: random, made once for its data, each in a file that only its owner can read.
struct SandboxPasswords: Sendable {
    static let names = ["manager", "daemon", "selfcare"]

    let manager: String
    let daemon: String
    let selfcare: String

    /// Makes passwords for a new, empty directory.
    static func make(in folder: SandboxFolder) throws(SandboxError) -> SandboxPasswords {
        for name in names { try TextFile.write(random() + "\n", to: folder.passwordFile(name)) }
        return try SandboxPasswords(readingFrom: folder)
    }

    /// Reads the passwords that go with the data in the folder.
    init(readingFrom folder: SandboxFolder) throws(SandboxError) {
        manager = try Self.line(of: folder.passwordFile("manager"))
        daemon = try Self.line(of: folder.passwordFile("daemon"))
        selfcare = try Self.line(of: folder.passwordFile("selfcare"))
    }

    private static func line(of file: FilePath) throws(SandboxError) -> String {
        guard let line = try TextFile.read(file).split(separator: "\n").first else {
            throw SandboxError(.folder, "\(file) is empty", hint: "stop the sandbox and start it in a new folder")
        }
        return String(line)
    }

    private static func random() -> String {
        let alphabet = Array("abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789")
        var generator = SystemRandomNumberGenerator()
        return String((0..<24).compactMap { _ in alphabet.randomElement(using: &generator) })
    }
}
