import CLDAP
import DirectoryModel
import Glibc

extension LDAPHandle {
    /// Sends a request. Blocks only when the server has stopped reading, and no longer than the socket's send time limit.
    /// - Returns: the message id that the answers will carry.
    /// - Throws: an error with `isConnectionLost` when the connection is no more, else one about the request alone.
    func send(_ request: Request, controls: [Control] = []) throws(DirectoryError) -> Int32 {
        var arena = CArena()
        var messageID: Int32 = -1
        let code: Int32
        do throws(CArena.ContainsNUL) {
            code = try send(request, controls, &arena, &messageID)
        } catch {
            throw DirectoryError(
                .paramError, operation: "\(request)", server: "\(server)", diagnostic: "a name contains a NUL character"
            )
        }
        let result = ResultCode(rawValue: code)
        guard result != .success else {
            // Success with this code set means that a part of the request is still ours to send: the server has not read for too long.
            guard lastCode != .busy else {
                throw DirectoryError(
                    .timeout, operation: "\(request)", server: "\(server)", diagnostic: "the server does not read",
                    isConnectionLost: true)
            }
            return messageID
        }
        let isOurs = [.encodingError, .filterError, .paramError, .notSupported, .noMemory].contains(result)
        throw DirectoryError(
            result == .busy ? .timeout : result, operation: "\(request)", server: "\(server)",
            diagnostic: lastDiagnostic,
            isConnectionLost: !isOurs)
    }

    private func send(
        _ request: Request, _ controls: [Control], _ arena: inout CArena, _ messageID: inout Int32
    ) throws(CArena.ContainsNUL) -> Int32 {
        let list = controls.isEmpty ? nil : unsafe try arena.controls(controls)
        switch request {
        case .search(let base, let scope, let filter, let attributes, let sizeLimit):
            let names = attributes.isEmpty ? nil : unsafe try arena.strings(attributes.map(\.spelling))
            let depth =
                switch scope {
                case .base: LDAP_SCOPE_BASE
                case .oneLevel: LDAP_SCOPE_ONELEVEL
                case .subtree: LDAP_SCOPE_SUBTREE
                }
            return unsafe ldap_search_ext(
                pointer, try arena.string(base.description), ber_int_t(depth), try arena.string(filter.description),
                names, 0, list, nil, nil, Int32(clamping: sizeLimit), &messageID)
        case .add(let entry):
            let values = unsafe try arena.modifications(
                entry.attributes.map { (LDAP_MOD_ADD, $0.name.spelling, $0.values) })
            return unsafe ldap_add_ext(pointer, try arena.string(entry.dn.description), values, list, nil, &messageID)
        case .modify(let dn, let modifications):
            let changes = unsafe try arena.modifications(
                modifications.map { (Self.operation($0.action), $0.attribute.spelling, $0.values) })
            return unsafe ldap_modify_ext(pointer, try arena.string(dn.description), changes, list, nil, &messageID)
        case .delete(let dn):
            return unsafe ldap_delete_ext(pointer, try arena.string(dn.description), list, nil, &messageID)
        case .rename(let dn, let rdn, let deleteOldRDN, let newSuperior):
            let superior = newSuperior == nil ? nil : unsafe try arena.string(newSuperior?.description ?? "")
            return unsafe ldap_rename(
                pointer, try arena.string(dn.description), try arena.string(rdn.description), superior,
                deleteOldRDN ? 1 : 0, list, nil, &messageID)
        case .bind(.simple(let dn, let password)):
            let secret = unsafe arena.value(Array(password.expose().utf8))
            return unsafe ldap_sasl_bind(pointer, try arena.string(dn.description), nil, secret, list, nil, &messageID)
        case .bind(.anonymous):
            return unsafe ldap_sasl_bind(pointer, "", nil, arena.value([]), list, nil, &messageID)
        case .bind(.external):
            return unsafe ldap_sasl_bind(pointer, nil, "EXTERNAL", arena.value([]), list, nil, &messageID)
        case .whoAmI:
            return unsafe ldap_extended_operation(
                pointer, RootDSE.Feature.whoAmI.rawValue, nil, list, nil, &messageID)
        }
    }

    private static func operation(_ action: Modification.Action) -> Int32 {
        switch action {
        case .add: LDAP_MOD_ADD
        case .delete: LDAP_MOD_DELETE
        case .replace: LDAP_MOD_REPLACE
        case .increment: LDAP_MOD_INCREMENT
        }
    }

    /// Tells the server that nobody waits any more (RFC 4511, section 4.11). It may have finished already.
    func abandon(_ messageID: Int32) throws(DirectoryError) {
        let code = unsafe ldap_abandon_ext(pointer, messageID, nil, nil)
        guard code != LDAP_SUCCESS else { return }
        throw DirectoryError(
            ResultCode(rawValue: code), operation: "abandon", server: "\(server)", isConnectionLost: true)
    }
}
