import Daemon
import LDAP
import Glibc
import SystemPackage

/// Carries LDIF files out, record by record, with no more than a piece of the file in memory.
struct LDIFLoader {
    let connection: LDAPConnection
    let continuesOnError: Bool
    private(set) var loaded = 0
    private(set) var failed = 0

    init(connection: LDAPConnection, continuesOnError: Bool) {
        self.connection = connection
        self.continuesOnError = continuesOnError
    }

    /// - Throws: `CommandFailure` at the first error, unless errors are gone over.
    mutating func load(_ path: String) async throws {
        let file = try TextFiles.open(path)
        defer { _ = Glibc.close(file.rawValue) }
        var progress = ProgressBar(title: path, total: TextFiles.size(of: file))
        defer { progress.finish() }
        var parser = LDIFParser(source: path, urlContents: TextFiles.contents(ofURL:))
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try buffer.withUnsafeMutableBytes { try file.read(into: $0) }
            if count == 0 { parser.finish() } else { parser.append(buffer[..<count]) }
            try await drain(&parser, path)
            if count == 0 { return }
            progress.advance(by: count)
        }
    }

    private mutating func drain(_ parser: inout LDIFParser, _ path: String) async throws {
        while true {
            do {
                guard let record = try parser.next() else { return }
                do throws(LDAPError) {
                    try await carryOut(record)
                    loaded += 1
                } catch {
                    try note(CommandFailure(error), at: "\(path):\(record.line): \(record.dn)")
                }
            } catch let error as LDIFError {
                try note(CommandFailure(error.description, hint: "the record was not loaded"), at: nil)
            }
        }
    }

    private mutating func note(_ failure: CommandFailure, at place: String?) throws {
        let told = CommandFailure(
            place.map { "\($0): \(failure.reason)" } ?? failure.reason, hint: failure.hint, status: failure.status)
        failed += 1
        guard continuesOnError, failure.status != .unavailable else { throw told }
        printError(told.description)
    }

    private func carryOut(_ record: LDIFRecord) async throws(LDAPError) {
        guard !record.controls.contains(where: \.isCritical) else {
            throw LDAPError(
                .unavailableCriticalExtension, operation: "load \(record.dn)", server: connection.server.description,
                diagnostic: "the record asks for a critical control, and none can be sent by this command")
        }
        switch record.change {
        case .content(let attributes), .add(let attributes):
            try await connection.add(Entry(dn: record.dn, attributes: attributes))
        case .delete:
            _ = try await connection.delete(record.dn)
        case .modify(let modifications):
            _ = try await connection.modify(record.dn, modifications)
        case .rename(let newRDN, let deleteOldRDN, let newSuperior):
            try await connection.rename(record.dn, to: newRDN, deleteOldRDN: deleteOldRDN, newSuperior: newSuperior)
        }
    }
}
