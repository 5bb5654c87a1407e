{{/* The pods of Deployment and StatefulSet, and what the pods of helm test have of it. */}}

{{- define "inventory-refresh.podTemplate" -}}
metadata:
  labels:
    {{- merge (include "inventory-refresh.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels | toYaml | nindent 4 }}
  annotations:
    {{- merge (include "inventory-refresh.checksums" . | fromYaml) .Values.podAnnotations | toYaml | nindent 4 }}
spec:
  {{- include "inventory-refresh.podBasics" . | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "inventory-refresh.graceSeconds" . }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    - {{- merge (deepCopy .) (include "inventory-refresh.spread" $ | fromYaml) | toYaml | nindent 6 }}
    {{- end }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: inventory-refresh
      {{- include "inventory-refresh.containerBasics" . | nindent 6 }}
      args: [run]
      env:
        {{- include "inventory-refresh.env" . | nindent 8 }}
        {{- if .Values.staticMembership.enabled }}
        - name: INVENTORY_REFRESH_KAFKA__PROPERTIES__GROUP_INSTANCE_ID
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        {{- end }}
      ports:
        - name: http
          containerPort: {{ .Values.config.http.port }}
          protocol: TCP
      startupProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/healthz" "times" .Values.probes.startup) | nindent 8 }}
      livenessProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/healthz" "times" .Values.probes.liveness) | nindent 8 }}
      readinessProbe:
        {{- include "inventory-refresh.probe" (dict "path" "/readyz" "times" .Values.probes.readiness) | nindent 8 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}

{{/* A pod's settings that do not differ between the service and its tests. */}}
{{- define "inventory-refresh.podBasics" -}}
serviceAccountName: {{ include "inventory-refresh.serviceAccountName" . }}
# Kubernetes is never called.
automountServiceAccountToken: false
# Variables for each Service of the namespace would only stand in the way: some look like options.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  {{- include "inventory-refresh.volumes" . | nindent 2 }}
{{- end }}

{{- define "inventory-refresh.containerBasics" -}}
image: {{ include "inventory-refresh.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: {{ include "inventory-refresh.configFolder" . }}
    readOnly: true
  - name: secrets
    mountPath: {{ include "inventory-refresh.secretsFolder" . }}
    readOnly: true
  {{- if include "inventory-refresh.hasCaBundle" . }}
  - name: ca
    mountPath: {{ include "inventory-refresh.caFolder" . }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{- define "inventory-refresh.env" -}}
- name: INVENTORY_REFRESH_CONFIG
  value: {{ include "inventory-refresh.configFolder" . }}/config.yaml
- name: INVENTORY_REFRESH_SECRETS_DIR
  value: {{ include "inventory-refresh.secretsFolder" . }}
# Empty counts as not given: the image sets it, and a variable would win over config.log.format.
- name: INVENTORY_REFRESH_LOG__FORMAT
  value: ""
- name: POLARS_MAX_THREADS
  value: {{ .Values.polarsThreads | quote }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Folders, never single files (subPath): only so a changed Secret reaches a running pod. */}}
{{- define "inventory-refresh.volumes" -}}
- name: config
  configMap:
    name: {{ include "inventory-refresh.fullname" . }}
- name: secrets
  projected:
    # For the group, which fsGroup makes the service's.
    defaultMode: 0440
    sources:
      {{- range .Values.secrets.existing }}
      - secret:
          {{- toYaml . | nindent 10 }}
      {{- end }}
      {{- if .Values.secrets.externalSecret.enabled }}
      - secret:
          name: {{ include "inventory-refresh.fullname" . }}
      {{- end }}
{{- if .Values.caBundle.configMap }}
- name: ca
  configMap:
    name: {{ .Values.caBundle.configMap }}
{{- else if .Values.caBundle.secret }}
- name: ca
  secret:
    secretName: {{ .Values.caBundle.secret }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "inventory-refresh.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
{{ toYaml .times }}
{{- end }}

{{/* Spread the pods of one revision, so that those that are about to go do not count. */}}
{{- define "inventory-refresh.spread" -}}
labelSelector:
  matchLabels:
    {{- include "inventory-refresh.selectorLabels" . | nindent 4 }}
matchLabelKeys:
  - {{ ternary "controller-revision-hash" "pod-template-hash" .Values.staticMembership.enabled }}
{{- end }}
